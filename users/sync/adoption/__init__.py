"""Put the application beside another one, on the tables `users` and `builder_groups` of that one.

    catalog       reads what stands in the database
    obstacles     says what makes the adoption impossible
    findings      counts rows that need to be known about, by kind
    plan          lists the statements that are still missing
    run           executes them; running it again goes on

Nothing here uses the connections of Django before the search path is right: a migration with a
wrong path would put our tables into the schema of the other application.
"""
