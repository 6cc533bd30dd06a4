r"""The format of Clerk's ids, in one definition for Python and PostgreSQL.

Both read `\A` and `\Z` as the ends of the text. Python needs `\A` only for `search`. `$` would
let Python accept a newline at the end.
"""

from __future__ import annotations

import re

USER_ID = re.compile(r"\Auser_[A-Za-z0-9_]+\Z")
INVITATION_ID = re.compile(r"\Ainv_[A-Za-z0-9_]+\Z")
SESSION_ID = re.compile(r"\Asess_[A-Za-z0-9_]+\Z")
INSTANCE_ID = re.compile(r"\Ains_[A-Za-z0-9_]+\Z")
