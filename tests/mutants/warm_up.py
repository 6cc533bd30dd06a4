"""Set up the test database once, before the mutants are forked."""


def test_the_database_is_ready(db):
    pass
