"""Run the product on one machine, with a sandbox of Clerk and generated people (`make demo`).

The demo is not part of the product: no module of `cascade`, `staff` and `users` imports it.
`__main__` runs the demo, `processes` starts and stops its parts, and `data` loads the people that
`people` generates. `environment` lets commands in a second terminal use the running demo.
"""
