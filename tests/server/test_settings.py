"""Settings and catalogues as files: what the command line says of them."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from typer.testing import CliRunner

from policies.errors import SettingsError
from policies.policy import LinUCBSettings, Policy, PolicySettings
from server import warming
from server.__main__ import app
from server.settings import Settings, read_settings
from server.stores.opening import migrate_store

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def log() -> Iterator[None]:
    """Leave the log as it was: commands write it to where they are run."""
    yield
    structlog.reset_defaults()


def write(folder: Path, text: str, name: str = "settings.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_settings_that_say_nothing_are_the_defaults_beside_the_file(
    tmp_path: Path,
) -> None:
    settings = read_settings(write(tmp_path, ""))

    assert settings.server == Settings().server
    assert settings.policy == Settings().policy
    assert settings.store.url == f"sqlite:///{tmp_path}/opportune.db"
    assert settings.catalogue.file == f"{tmp_path}/catalogue.toml"


def test_every_section_is_read(tmp_path: Path) -> None:
    text = """
        [server]
        address = "[::1]:80"
        workers = 3
        tenant = "shop"
        drain = "5s"
        in_flight_max = 7
        [store]
        url = "sqlite:////var/lib/x.db"
        [catalogue]
        file = "/etc/shop.toml"
        [policy]
        salt = "pepper"
        [policy.learner]
        kind = "vw"
        [policy.exploration]
        kind = "squarecb"
        [policy.traffic]
        floor = 0.01
        new_outcomes = 250
        [rewards]
        attention_cost = 0.5
        wait = "1h"
        [rewards.outcomes]
        clicked = 0.1
        [learning]
        poll = "1s"
        publish = "2s"
        snapshots = 3
        canary = 0.1
        warm_start = "sqlite:///other.db"
        [baseline.learner]
        kind = "priority"
        [[challengers]]
        name = "bold"
        mode = "traffic"
        share = 0.2
        [challengers.policy]
        salt = "bold"
        [promotion]
        window = 500
        [drift]
        entropy_min = 0.1
        [guard]
        pii = "drop"
        [metrics]
        port = 9000
    """

    settings = read_settings(write(tmp_path, text))

    assert settings.server.host_port == ("[::1]", 80)
    assert (settings.server.workers, int(settings.server.drain)) == (3, 5_000)
    assert settings.store.url == "sqlite:////var/lib/x.db"
    assert settings.catalogue.file == "/etc/shop.toml"
    assert settings.policy.salt == "pepper"
    assert (settings.policy.floor, settings.policy.traffic.new_outcomes) == (0.01, 250)
    assert settings.rewards.of("clicked") == 0.1
    assert settings.learning.snapshots == 3
    assert settings.metrics.port == 9_000
    assert settings.learning.warm_start == f"sqlite:///{tmp_path}/other.db"
    assert settings.lineup(None).shares == {"bold": 0.2}
    assert len(settings.deciding) == 3
    assert settings.promotion.window == 500
    assert (settings.drift.entropy_min, settings.guard.pii) == (0.1, "drop")


WRONG = [
    ("[sever]", "sever"),
    ('[server]\naddr = "x:1"', "server.addr"),
    ('[server]\naddress = "x"', "server"),
    ('[server]\naddress = "x:65536"', "server"),
    ("[server]\nworkers = 0", "server"),
    ("[server]\nworkers = 65", "server"),
    ('[server]\nworkers = "2"', "server.workers"),
    ("[server]\nin_flight_max = 0", "server"),
    ('[server]\ndrain = "soon"', "server.drain"),
    ("[learning]\nsnapshots = 0", "learning"),
    ('[learning]\npoll = "0s"', "learning"),
    ("[learning]\ncanary = 1.5", "learning"),
    ('[learning]\ncanary_for = "0s"', "learning"),
    ("[promotion]\nwindow = 10", "promotion"),
    ("[drift]\nwindow = 10", "drift"),
    ("[drift]\nentropy_min = 2", "drift"),
    ("[drift]\npsi_max = 0", "drift"),
    ('[drift]\nevery = "0s"', "drift"),
    ("[guard]\ncategories_max = 0", "guard"),
    ('[guard]\npii = "hide"', "guard.pii"),
    ("[metrics]\nport = -1", "metrics"),
    ("[metrics]\nport = 70000", "metrics"),
    ('[policy.learner]\nkind = "wv"', "policy.learner"),
    ('[policy.learner]\nkind = "vw"\nbitz = 3', "policy.learner.bitz"),
    (
        '[policy.exploration]\nkind = "epsilon_greedy"\nepsilon = 2',
        "policy.exploration",
    ),
    ("[policy.traffic]\nfloor = 1.5", "policy.traffic.floor"),
    ("[policy.traffic]\nleast = 0.5\nmost = 0.4", "policy.traffic.least"),
    ("[policy.traffic]\nfloors = 0.5", "policy.traffic.floors"),
    ("[rewards]\nattention_cost = -1", "rewards"),
    ("[rewards.outcomes]\nacepted = 1", "rewards.outcomes"),
]


@pytest.mark.parametrize(("text", "key"), WRONG, ids=[text for text, _ in WRONG])
def test_what_is_wrong_with_settings_is_named_with_line_and_key(
    tmp_path: Path, text: str, key: str
) -> None:
    path = write(tmp_path, "# Settings\n" + text)

    with pytest.raises(SettingsError) as caught:
        read_settings(path)

    (problem,) = caught.value.problems
    assert problem.field.startswith(key)
    assert problem.line in {2, 3, 4}
    assert str(caught.value).startswith(f"{path}: line {problem.line}: {key}")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ('[[challengers]]\nname = "Bold"', "'Bold'"),
        ('[[challengers]]\nname = "default"', "'default'"),
        ('[[challengers]]\nname = "a"\nshare = 1.0', "share"),
        ('[[challengers]]\nname = "a"\nmode = "hidden"', "mode"),
        (
            '[[challengers]]\nname = "same"',
            "challengers: challengers must differ: 'same' is 'default' again",
        ),
        (
            (
                '[[challengers]]\nname = "a"\npolicy.salt = "x"\n'
                '[[challengers]]\nname = "a"\npolicy.salt = "y"'
            ),
            "challengers: challengers must differ in name: two are 'a'",
        ),
        (
            (
                '[[challengers]]\nname = "a"\nmode = "traffic"\nshare = 0.6\n'
                'policy.salt = "x"\n[[challengers]]\nname = "b"\nmode = "traffic"\n'
                'share = 0.5\npolicy.salt = "y"'
            ),
            "challengers: .* below 1 together",
        ),
    ],
)
def test_challengers_that_cannot_be_are_refused(
    tmp_path: Path, text: str, word: str
) -> None:
    with pytest.raises(SettingsError, match=word):
        read_settings(write(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            '[rewards]\naggregate = "latest"',
            "must be earliest, max, mean, median, min or sum, not 'latest'",
        ),
        (
            "[rewards.outcomes]\nrefundd = 1",
            "must be accepted, churned, .* or viewed, not 'refundd'",
        ),
        (
            '[[challengers]]\nname = "b"\npolicy.learner.kind = "wv"',
            "must be blend, linucb, .* or priority, not 'wv'",
        ),
        (
            "[policy.learner]\nalpha = 1.0",
            "policy.learner.kind: is required: blend, linucb, .* or priority",
        ),
        (
            "[policy.exploration]\nepsilon = 0.1",
            "policy.exploration.kind: is required: epsilon_greedy, .* or vw_explorer",
        ),
        (
            '[policy.learner]\nkind = "linucb"\nalfa = 0.2',
            "policy.learner.alfa: is not known; did you mean alpha?",
        ),
        (
            '[policy.exploration]\nkind = "softmax"\ntemperature = 1\nsize = 1',
            "size: is not known; known here: kind, temperature",
        ),
        (
            '[[challengers]]\nname = "b"\nshares = 0.1',
            "shares: is not known; did you mean share?",
        ),
    ],
)
def test_what_would_be_right_is_said_where_it_is_one_of_a_few(
    tmp_path: Path, text: str, said: str
) -> None:
    with pytest.raises(SettingsError, match=said):
        read_settings(write(tmp_path, text))


def test_everything_that_is_wrong_with_settings_is_named_at_once(
    tmp_path: Path,
) -> None:
    text = """\
[server]
addr = "x:1"
worker = 1
[learning]
poll = "soon"
[metrics]
prot = 1
"""

    with pytest.raises(SettingsError) as caught:
        read_settings(write(tmp_path, text))

    assert {(p.line, p.field) for p in caught.value.problems} == {
        (2, "server.addr"),
        (3, "server.worker"),
        (5, "learning.poll"),
        (7, "metrics.prot"),
    }


@pytest.mark.parametrize("data", [b"\xff\xfe", b"a = ", b"a = 1\na = 2"])
def test_what_is_no_text_or_no_toml_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "settings.toml"
    path.write_bytes(data)

    for file in (path, tmp_path / "none.toml"):
        with pytest.raises(SettingsError, match=r"\.toml: "):
            read_settings(file)


def lint(*paths: Path) -> tuple[int, str, str]:
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["lint", *map(str, paths)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


GOOD = '[placements.home]\n[offers.tea]\nplacements = ["home"]\n'


def test_lint_is_content_with_what_is_right(tmp_path: Path) -> None:
    catalogue = write(tmp_path, GOOD, "shop.toml")
    settings = write(tmp_path, '[catalogue]\nfile = "shop.toml"\n')

    status, out, err = lint(catalogue, settings)

    assert (status, err) == (0, "")
    assert "tea" in out
    assert out.count("no problems") == 3


def test_lint_is_content_with_our_examples() -> None:
    catalogues = sorted(ROOT.glob("examples/**/catalogue.toml"))
    settings = [path.with_name("settings.toml") for path in catalogues]
    beside = [path for path in settings if path.exists()]
    assert catalogues
    assert beside

    status, _, err = lint(*catalogues, *beside)

    assert (status, err) == (0, "")


def test_lint_names_everything_that_is_wrong_in_every_file(tmp_path: Path) -> None:
    catalogue = write(
        tmp_path,
        GOOD + 'caps = [{ limit = 0 }]\neligible = "segmant == 1"\nstrat = 1\n',
        "shop.toml",
    )
    settings = write(tmp_path, "[server]\nworkers = 0\n")

    status, out, err = lint(catalogue, settings, write(tmp_path, GOOD, "good.toml"))

    assert status == 1
    lines = err.splitlines()
    for start in (
        f"{catalogue}: line 4: offers.tea.caps.0.limit: ",
        f"{catalogue}: line 5: offers.tea.eligible: ",
        f"{catalogue}: line 6: offers.tea.strat: ",
        f"{settings}: line ",
    ):
        assert sum(line.startswith(start) for line in lines) == 1, (start, lines)
    assert len(lines) == 4
    assert "good.toml" in out


@pytest.mark.parametrize("data", [b"[offers.tea]\n\xff", b"[offers", b"\xff"])
def test_lint_of_what_is_no_toml_says_so(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "broken.toml"
    path.write_bytes(data)

    status, _, err = lint(path)

    assert status == 1
    assert err.startswith(f"{path}: ")
    assert "Traceback" not in err


def test_lint_of_no_file_is_a_wrong_use(tmp_path: Path) -> None:
    assert lint(tmp_path / "none.toml")[0] == 2
    assert lint()[0] == 2


@pytest.mark.parametrize(
    ("catalogue", "settings", "word"),
    [
        (None, "", "catalogue.toml"),
        ("capz = 1", "", "capz"),
        (GOOD, "[server]\nprot = 1", "prot"),
        (GOOD, '[store]\nurl = "mysql://x"', "sqlite:///"),
    ],
)
def test_a_server_does_not_start_with_wrong_files(
    tmp_path: Path, catalogue: str | None, settings: str, word: str
) -> None:
    if catalogue is not None:
        write(tmp_path, catalogue, "catalogue.toml")
    path = write(tmp_path, settings)

    result = CliRunner().invoke(app, ["serve", "-s", str(path)])

    assert result.exit_code == 1
    assert word in result.stderr
    assert result.stdout == ""


SPLIT = "[policy.split]\neval = 0.2\ncontrol = 0.1\n"


@pytest.mark.parametrize(
    "table", ["[baseline]", '[[challengers]]\nname = "a"\n[challengers.policy]']
)
def test_users_are_split_alike_whoever_decides(tmp_path: Path, table: str) -> None:
    settings = read_settings(write(tmp_path, f'{SPLIT}{table}\nsalt = "x"\n'))

    assert {policy.split for policy in settings.deciding} == {settings.policy.split}
    assert settings.policy.split.eval == 0.2
    assert len({policy.version for policy in settings.deciding}) == 2


@pytest.mark.parametrize(
    ("table", "where"),
    [
        ("[baseline.split]", "baseline"),
        (
            '[[challengers]]\nname = "a"\n[challengers.policy.split]',
            "challengers",
        ),
    ],
)
def test_a_split_of_their_own_is_refused(
    tmp_path: Path, table: str, where: str
) -> None:
    with pytest.raises(
        SettingsError, match=f"{where} must split users as .policy.split"
    ):
        read_settings(write(tmp_path, f"{SPLIT}{table}\neval = 0.5\n"))


CLIPPED = "[rewards]\nclip_max = 90.0\n"
MONEY = '[rewards.outcomes]\naccepted = { money = "margin" }\n'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        (MONEY, ["clip_max or clip_quantile"]),
        (f"[rewards]\nclip_max = 90.0\n{MONEY}", []),
        (f"[rewards]\nclip_quantile = 0.99\n{MONEY}", []),
        (
            f'[policy.objective]\nvalue = "price"\n[rewards]\nclip_max = 9.0\n{MONEY}',
            ["money counts twice"],
        ),
        (f'{CLIPPED}{MONEY}refunded = {{ money = "margin" }}', []),
        (f"{CLIPPED}{MONEY}refunded = 0.0", []),
        (
            f'{CLIPPED}{MONEY}refunded = {{ money = "revenue" }}',
            ["rewards.outcomes.refunded takes off revenue, and .* earns margin"],
        ),
        (
            f'{CLIPPED}[rewards.outcomes]\nchurned = {{ money = "revenue" }}',
            ["takes off revenue, and what is accepted earns the number 1:"],
        ),
        (
            '[policy.learner]\nkind = "vw"\n[policy.exploration]\nkind = "thompson"',
            ["policy: vw does not say how sure it is, and thompson .* greedy"],
        ),
        (
            'baseline = { learner.kind = "priority", exploration.kind = "ucb" }',
            ["baseline: priority does not say how sure it is, and ucb"],
        ),
        ('policy = { learner.kind = "linucb", exploration.kind = "ucb" }', []),
    ],
)
def test_what_is_seldom_meant_is_told(
    tmp_path: Path, text: str, words: list[str]
) -> None:
    found = read_settings(write(tmp_path, text)).warnings

    assert len(found) == len(words)
    for warning, word in zip(found, words, strict=True):
        assert re.search(word, warning)


def test_lint_tells_what_is_seldom_meant(tmp_path: Path) -> None:
    path = write(tmp_path, MONEY)
    (tmp_path / "catalogue.toml").write_text(
        '[placements.home]\n[offers.tea]\nplacements = ["home"]\n'
    )

    status, said, _ = lint(path)

    assert status == 0
    assert "warning: rewards.outcomes.accepted is an amount of money" in said


def test_lint_tells_why_nothing_would_be_begun_with(tmp_path: Path) -> None:
    # Given settings that begin with what an exported model, or another store, has
    write(tmp_path, GOOD, "catalogue.toml")
    begun = '[learning]\nwarm_start = "{}"\n'
    exported = PolicySettings(LinUCBSettings(dim=16))
    file = tmp_path / "model.json"
    body = Policy(exported).save()
    warming.export(file, exported, model="1.0", body=body)
    (tmp_path / "torn.json").write_text("{")
    told = {
        "none.json": "none.json is not there",
        "sqlite:///none.db": "none.db is not there",
        "torn.json": "torn.json is no exported model",
        "model.json": "model.json is of a learner with other settings",
    }

    # When they are linted, then it is said where that cannot be
    for source, why in told.items():
        status, said, _ = lint(write(tmp_path, begun.format(source)))
        assert status == 0
        assert "warning: learning.warm_start: " in said
        assert why in said

    # And nothing where it can, by the champion or by a challenger
    fits = f"{begun.format('model.json')}[{{}}.learner]\nkind = 'linucb'\ndim = 16\n"
    challenger = '[[challengers]]\nname = "a"\n'
    for text in (
        begun.format("sqlite:///settings.toml"),
        fits.format("policy"),
        challenger + fits.format("challengers.policy"),
    ):
        assert "warning" not in lint(write(tmp_path, text))[1]


def test_lint_lists_the_offers_of_a_catalogue_once(tmp_path: Path) -> None:
    catalogue = write(tmp_path, GOOD, "catalogue.toml")

    _, said, _ = lint(catalogue, write(tmp_path, ""))

    assert said.count("│ tea") == 1
    assert said.count("catalogue, no problems") == 2


def test_what_the_system_refuses_is_said_in_words(tmp_path: Path) -> None:
    # Given settings whose catalogue is not there, or is a folder's name and a file's
    path = write(tmp_path, '[catalogue]\nfile = "none.toml"\n')
    below = write(tmp_path, f'[catalogue]\nfile = "{path.name}/x.toml"\n', "b.toml")
    nowhere = write(tmp_path, '[store]\nurl = "sqlite:///none/x.db"\n', "c.toml")
    migrate_store(f"sqlite:///{tmp_path}/opportune.db")
    out = str(tmp_path / "none" / "x.csv")

    # When commands want it, then they say which file, and what to do
    for command, words in [
        (["lint", str(path)], "none.toml: file: is not there: mend the path"),
        (["lint", str(below)], "x.toml: file: is below what is no folder"),
        (["revenue", "-s", str(path), "--out", out], f"{out} is not there: mend"),
        (["serve", "-s", str(nowhere)], "there is no folder"),
    ]:
        result = CliRunner(env={"COLUMNS": "200"}).invoke(app, command)
        assert result.exit_code == 1
        assert words in result.stderr
        assert "Errno" not in result.stderr


def test_an_address_that_is_taken_is_said_in_words(tmp_path: Path) -> None:
    write(tmp_path, GOOD, "catalogue.toml")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        path = write(tmp_path, f'[server]\naddress = "{address}"\n')

        result = CliRunner().invoke(app, ["serve", "-s", str(path)])

    assert result.exit_code == 1
    assert f"cannot serve: address {address} is taken" in result.stderr


def test_a_text_where_a_table_belongs_is_told_how_to_write_it(tmp_path: Path) -> None:
    text = '[policy.learner]\nkind = "vw"\nexplorer = "bag"\n'

    with pytest.raises(SettingsError, match=r'explorer = \{ kind = "\.\.\." \}'):
        read_settings(write(tmp_path, text))
