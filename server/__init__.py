"""How decisions are served: gRPC, stores and the learner's process."""
