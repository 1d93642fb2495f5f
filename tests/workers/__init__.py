"""Dispatcher, zygote and workers as they really run: processes are killed, disks fill up, budgets end."""
