"""Sign staff in to the admin.

Builder users are not part of this app: they sign in through Clerk.

| module | what |
|---|---|
| `models` | the journal of sign-ins, and the bound accounts of the company's provider |
| `limits` | wrong attempts of an account and a network; checked before a password is hashed |
| `two_step` | codes of an authenticator app, and recovery codes |
| `provider`, `binding` | the company's OpenID provider: the protocol, and the user of an account |
| `password_reset`, `tasks` | the mail for a forgotten password, which the worker sends |
| `sessions`, `middleware` | the end of a session, and its pages before the second step |
| `backends`, `hashers`, `checks` | the parts of the sign-in that Django's settings name |
| `forms`, `views`, `admin` | the pages |
"""
