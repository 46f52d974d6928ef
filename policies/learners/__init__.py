"""Learners: each scores actions by the reward it expects, and learns from one."""
