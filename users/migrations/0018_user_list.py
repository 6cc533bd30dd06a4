import django.db.models.deletion
from django.db import migrations, models

# What the search compares: without accents and without case. `normalize` splits a letter from its
# accents; the letters that have no such form are listed. It needs no extension and is immutable.
SEARCH_KEY = r"""
CREATE FUNCTION users_search_key(value text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT replace(replace(replace(translate(lower(
        regexp_replace(normalize(coalesce(value, ''), NFKD), '[\u0300-\u036f]+', '', 'g')
    ), 'ŁłØøĐđÐðĦħŦŧı', 'llooddddhhtti'), 'ß', 'ss'), 'æ', 'ae'), 'œ', 'oe')
$$
"""

# `users.sync.mirror.comparison` defines this rule; a test compares both. Nearly all values are equal
# as they are, and need no normalization.
DIFFERS = r"""
CREATE FUNCTION users_name_differs(ours text, clerks text) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    white constant text := E'[\u0009\u000a\u000b\u000c\u000d\u001c\u001d\u001e\u001f\u0020\u0085\u00a0\u1680\u2000\u2001'
        '\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000]+';
    name text;
BEGIN
    IF ours = clerks THEN
        RETURN false;
    END IF;
    name := normalize(btrim(regexp_replace(coalesce(clerks, ''), white, ' ', 'g')), NFC);
    RETURN name <> ''
        AND name <> normalize(btrim(regexp_replace(coalesce(ours, ''), white, ' ', 'g')), NFC);
END
$$;
CREATE FUNCTION users_email_differs(ours text, clerks text) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    white constant text := E'\u0009\u000a\u000b\u000c\u000d\u001c\u001d\u001e\u001f\u0020\u0085\u00a0\u1680\u2000\u2001'
        '\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000';
    upper constant text := 'ABCDEFGHIJKLMNOPQRSTUVWXYZ';
    lower constant text := 'abcdefghijklmnopqrstuvwxyz';
    email text;
BEGIN
    IF ours = clerks THEN
        RETURN false;
    END IF;
    email := translate(btrim(coalesce(clerks, ''), white), upper, lower);
    RETURN email <> ''
        AND email <> translate(btrim(coalesce(ours, ''), white), upper, lower);
END
$$
"""

# The one writer of the table. It reads all that an entry shows, and stores it. An entry that
# another transaction writes is not waited for: that one may be a save that waits for Clerk. It is
# recorded as due, and the worker calls the function again.
REFRESH = r"""
CREATE FUNCTION users_refresh_list(ids uuid[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER AS $function$
DECLARE
    known uuid[];
    free uuid[];
BEGIN
    IF ids IS NULL THEN
        RETURN;
    END IF;
    SELECT array_agg(user_id) INTO known FROM users_listentry WHERE user_id = ANY(ids);
    SELECT array_agg(user_id) INTO free FROM (
        SELECT user_id FROM users_listentry WHERE user_id = ANY(ids)
        ORDER BY user_id FOR UPDATE SKIP LOCKED
    ) AS entry;
    IF cardinality(known) > coalesce(cardinality(free), 0) THEN
        INSERT INTO users_listdue (user_id)
        SELECT id FROM unnest(known) AS one (id) WHERE id <> ALL(coalesce(free, '{}'));
        SELECT array_agg(id) INTO ids FROM unnest(ids) AS one (id)
        WHERE id <> ALL(known) OR id = ANY(free);
    END IF;
    DELETE FROM users_listdue WHERE user_id = ANY(ids);
    INSERT INTO users_listentry AS entry (
        user_id, clerk_id, name_key, email_key, group_key, search, role, builder_group_id, state,
        invitation, last_sign_in_at, created_at
    )
    SELECT users.id, users.clerk_id, name_key, email_key, group_key,
        concat_ws(' ', '', name_key, email_key, group_key, lower(users.clerk_id)),
        users.role::text, users.builder_group_id,
        CASE
            WHEN EXISTS (
                SELECT FROM users_syncattempt AS attempt
                WHERE attempt.user_id = users.id AND attempt.status = 'started'
            ) THEN 'open'
            WHEN users.clerk_id IS NULL OR users.clerk_id !~ '^user_[A-Za-z0-9_]+\Z'
                THEN 'not_linked'
            WHEN account.clerk_id IS NULL THEN 'unseen'
            WHEN account.deleted_at IS NOT NULL THEN 'deleted'
            WHEN account.not_found_at IS NOT NULL THEN 'not_found'
            WHEN account.banned THEN 'banned'
            WHEN account.locked THEN 'locked'
            WHEN users_name_differs(users.name, concat(first_name, ' ', last_name))
                OR users_email_differs(users.email, account.email) THEN 'differs'
            ELSE 'in_step'
        END,
        coalesce((
            SELECT status FROM users_invitation AS invitation
            WHERE invitation.user_id = users.id
            ORDER BY status IN ('waiting', 'pending') DESC, invitation.id DESC LIMIT 1
        ), ''),
        account.last_sign_in_at, coalesce(users.created_at, now())
    FROM users
        LEFT JOIN builder_groups AS builder_group ON builder_group.id = users.builder_group_id
        LEFT JOIN users_clerkaccount AS account
            ON account.user_id = users.id AND account.clerk_id = users.clerk_id
        CROSS JOIN LATERAL (
            SELECT users_search_key(users.name) AS name_key,
                users_search_key(users.email) AS email_key,
                users_search_key(builder_group.name) AS group_key
        ) AS keys
    WHERE users.id = ANY(ids)
    ON CONFLICT (user_id) DO UPDATE SET
        clerk_id = EXCLUDED.clerk_id, name_key = EXCLUDED.name_key,
        email_key = EXCLUDED.email_key, group_key = EXCLUDED.group_key,
        search = EXCLUDED.search, role = EXCLUDED.role,
        builder_group_id = EXCLUDED.builder_group_id, state = EXCLUDED.state,
        invitation = EXCLUDED.invitation, last_sign_in_at = EXCLUDED.last_sign_in_at,
        created_at = EXCLUDED.created_at
    WHERE (entry.*) IS DISTINCT FROM (EXCLUDED.*);
    DELETE FROM users_listentry AS entry
    WHERE user_id = ANY(ids) AND NOT EXISTS (SELECT FROM users WHERE users.id = entry.user_id);
END
$function$
"""

# Whoever writes one of these tables, other applications included, refreshes the entries that show it.
# The functions run as their owner and with our schemas, because the role and the search path of
# another application need not reach our tables.
TRIGGERS = r"""
CREATE FUNCTION users_list_user() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM users_refresh_list(array_agg(id)) FROM new_rows;
    ELSIF TG_OP = 'DELETE' THEN
        PERFORM users_refresh_list(array_agg(id)) FROM old_rows;
    ELSE
        PERFORM users_refresh_list(array_agg(id))
        FROM new_rows AS later JOIN old_rows AS earlier USING (id)
        WHERE (later.clerk_id, later.name, later.email, later.role, later.builder_group_id)
            IS DISTINCT FROM (earlier.clerk_id, earlier.name, earlier.email, earlier.role, earlier.builder_group_id);
    END IF;
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN  -- a statement of another application must not fail because of us
    RAISE WARNING 'The list of users shows a row as it was: %', SQLERRM;
    RETURN NULL;
END
$$;
CREATE FUNCTION users_list_group() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    PERFORM users_refresh_list(array_agg(user_id))
    FROM new_rows AS later JOIN old_rows AS earlier USING (id)
        JOIN users_listentry AS entry ON entry.builder_group_id = later.id
    WHERE later.name IS DISTINCT FROM earlier.name;
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'The list of users shows a group as it was: %', SQLERRM;
    RETURN NULL;
END
$$;
CREATE FUNCTION users_list_account() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM users_refresh_list(array_agg(user_id)) FROM new_rows WHERE user_id IS NOT NULL;
    ELSIF TG_OP = 'DELETE' THEN
        PERFORM users_refresh_list(array_agg(user_id)) FROM old_rows WHERE user_id IS NOT NULL;
    ELSE
        PERFORM users_refresh_list(array_agg(DISTINCT id))
        FROM new_rows AS later JOIN old_rows AS earlier USING (clerk_id)
            CROSS JOIN unnest(ARRAY[later.user_id, earlier.user_id]) AS one (id)
        WHERE id IS NOT NULL AND (
            later.user_id, later.first_name, later.last_name, later.email, later.banned, later.locked,
            later.deleted_at, later.not_found_at, later.last_sign_in_at
        ) IS DISTINCT FROM (
            earlier.user_id, earlier.first_name, earlier.last_name, earlier.email, earlier.banned, earlier.locked,
            earlier.deleted_at, earlier.not_found_at, earlier.last_sign_in_at
        );
    END IF;
    RETURN NULL;
END
$$;
CREATE FUNCTION users_list_attempt() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM users_refresh_list(array_agg(DISTINCT user_id)) FROM new_rows
        WHERE user_id IS NOT NULL AND status = 'started';
    ELSIF TG_OP = 'DELETE' THEN
        PERFORM users_refresh_list(array_agg(DISTINCT user_id)) FROM old_rows
        WHERE user_id IS NOT NULL AND status = 'started';
    ELSE
        PERFORM users_refresh_list(array_agg(DISTINCT one.id))
        FROM new_rows AS later JOIN old_rows AS earlier ON later.id = earlier.id
            CROSS JOIN unnest(ARRAY[later.user_id, earlier.user_id]) AS one (id)
        WHERE one.id IS NOT NULL AND (later.user_id, later.status = 'started')
            IS DISTINCT FROM (earlier.user_id, earlier.status = 'started');
    END IF;
    RETURN NULL;
END
$$;
CREATE FUNCTION users_list_invitation() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM users_refresh_list(array_agg(DISTINCT user_id)) FROM new_rows;
    ELSIF TG_OP = 'DELETE' THEN
        PERFORM users_refresh_list(array_agg(DISTINCT user_id)) FROM old_rows;
    ELSE
        PERFORM users_refresh_list(array_agg(DISTINCT one.id))
        FROM new_rows AS later JOIN old_rows AS earlier ON later.id = earlier.id
            CROSS JOIN unnest(ARRAY[later.user_id, earlier.user_id]) AS one (id)
        WHERE (later.user_id, later.status) IS DISTINCT FROM (earlier.user_id, earlier.status);
    END IF;
    RETURN NULL;
END
$$;
DO $$
DECLARE
    schemas text := (
        SELECT string_agg(quote_ident(name), ', ') FROM unnest(current_schemas(false)) AS one (name)
    );
    called text;
BEGIN
    FOREACH called IN ARRAY ARRAY[
        'users_refresh_list(uuid[])', 'users_list_user()', 'users_list_group()',
        'users_list_account()', 'users_list_attempt()', 'users_list_invitation()'
    ] LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = %s, pg_temp', called, schemas);
    END LOOP;
END
$$;
"""

TRIGGERED = {
    "users": "user",
    "users_clerkaccount": "account",
    "users_syncattempt": "attempt",
    "users_invitation": "invitation",
}
ROWS = {
    "INSERT": "NEW TABLE AS new_rows",
    "UPDATE": "OLD TABLE AS old_rows NEW TABLE AS new_rows",
    "DELETE": "OLD TABLE AS old_rows",
}
ON = [(table, function, event) for table, function in TRIGGERED.items() for event in ROWS]
ON.append(("builder_groups", "group", "UPDATE"))

# `adopt_database` makes those on the tables of another application.
MODELS = {"users": "builderuser", "builder_groups": "buildergroup"}

CREATE_TRIGGERS = [
    (table, f"CREATE TRIGGER users_list_{event.lower()} AFTER {event} ON {table} "
    f"REFERENCING {ROWS[event]} FOR EACH STATEMENT EXECUTE FUNCTION users_list_{function}()")
    for table, function, event in ON
]
DROP = [
    *(f"DROP TRIGGER users_list_{event.lower()} ON {table}" for table, _, event in ON),
    *(f"DROP FUNCTION users_list_{function}()" for function in {function for _, function, _ in ON}),
    "DROP FUNCTION users_refresh_list(uuid[])",
    "DROP FUNCTION users_name_differs(text, text)",
    "DROP FUNCTION users_email_differs(text, text)",
    "DROP FUNCTION users_search_key(text)",
]

# Where the extension may not be created, there is no index, and the search finds beginnings only.
TRIGRAMS = """
DO $$
BEGIN
    CREATE EXTENSION IF NOT EXISTS pg_trgm;
    CREATE INDEX users_listentry_search ON users_listentry USING gin (search gin_trgm_ops);
EXCEPTION WHEN insufficient_privilege OR feature_not_supported OR undefined_file
    OR undefined_object THEN
    RAISE NOTICE 'pg_trgm cannot be used: %', SQLERRM;
END
$$
"""

FILL = "SELECT users_refresh_list(array_agg(id)) FROM users"


class Migration(migrations.Migration):
    dependencies = [("users", "0017_alerts_and_the_shared_rate")]

    operations = [
        migrations.CreateModel(
            name="ListDue",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("user_id", models.UUIDField(db_index=True)),
            ],
            options={
                "verbose_name_plural": "list entries that are due",
                "default_permissions": (),
            },
        ),
        migrations.CreateModel(
            name="ListEntry",
            fields=[
                (
                    "user",
                    models.OneToOneField(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        primary_key=True,
                        related_name="entry",
                        serialize=False,
                        to="users.builderuser",
                    ),
                ),
                ("clerk_id", models.TextField(null=True)),
                ("name_key", models.TextField(db_collation="C")),
                ("email_key", models.TextField(db_collation="C")),
                ("group_key", models.TextField(db_collation="C")),
                ("search", models.TextField()),
                ("role", models.TextField(null=True)),
                ("state", models.TextField()),
                ("invitation", models.TextField()),
                ("last_sign_in_at", models.DateTimeField(null=True)),
                ("created_at", models.DateTimeField()),
                (
                    "builder_group",
                    models.ForeignKey(
                        db_constraint=False,
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="users.buildergroup",
                    ),
                ),
            ],
            options={
                "verbose_name_plural": "list entries",
                "default_permissions": (),
                "indexes": [
                    models.Index(fields=["name_key", "user"], name="listentry_name"),
                    models.Index(fields=["email_key", "user"], name="listentry_email"),
                    models.Index(fields=["group_key", "user"], name="listentry_group"),
                    models.Index(fields=["role", "user"], name="listentry_role"),
                    models.Index(fields=["state", "user"], name="listentry_state"),
                    models.Index(
                        models.OrderBy(
                            models.F("last_sign_in_at"), descending=True, nulls_last=True
                        ),
                        models.OrderBy(models.F("user"), descending=True),
                        name="listentry_last_sign_in",
                    ),
                    models.Index(fields=["created_at", "user"], name="listentry_created"),
                    models.Index(
                        condition=models.Q(("invitation", ""), _negated=True),
                        fields=["invitation"],
                        name="listentry_invitation",
                    ),
                ],
            },
        ),
        *(
            migrations.RunSQL(statement, migrations.RunSQL.noop)
            for statement in (SEARCH_KEY, DIFFERS, REFRESH, TRIGGERS)
        ),
        *(
            migrations.RunSQL(
                statement, migrations.RunSQL.noop, hints={"model_name": MODELS.get(table)}
            )
            for table, statement in CREATE_TRIGGERS
        ),
        migrations.RunSQL(migrations.RunSQL.noop, DROP),
        migrations.RunSQL(FILL, migrations.RunSQL.noop),
        migrations.RunSQL(TRIGRAMS, migrations.RunSQL.noop),
    ]
