"""How far an answer depends on there being no unobserved confounder: one call, one result, one module a model."""
