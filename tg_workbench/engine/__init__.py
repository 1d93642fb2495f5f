"""One model and the six things a training client can do to it: numbers in, numbers out.

Knows no database, no network and no clock. Importing this package imports nothing;
`tg_workbench.engine.trainer` imports torch.

Pitfalls: `Trainer` counts nothing. Who calls `optim_step` on protected data must have charged the step first.
"""
