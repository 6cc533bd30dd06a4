"""`make demo`: the product on one machine, with a sandbox of Clerk and generated people.

No part of the product: nothing under `cascade`, `staff` and `users` imports it. `__main__` runs
the demo, `processes` starts and stops its parts, `data` loads its people (`people` generates
them), `environment` lets commands in a second terminal use the running demo.
"""
