"""How staff sign in to the admin. Builder users are not known here: they sign in through Clerk.

| module | what |
|---|---|
| `models` | the journal of sign-ins, and the bound accounts of the company's provider |
| `addresses` | the address of a client, behind a configured number of proxies |
| `limits` | wrong attempts of an account and an address; asked before a password is hashed |
| `two_step` | codes of an authenticator app, and recovery codes |
| `provider`, `binding` | the company's OpenID provider: the protocol, then whose account it is |
| `password_reset`, `tasks` | the mail for a forgotten password, sent by the worker |
| `sessions`, `middleware` | when a session ends, and what it may open before its second step |
| `forms`, `views`, `admin` | the pages |
"""
