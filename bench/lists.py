"""Measure the list of builder users beside a stock `ModelAdmin` over the same table.

Both run in this process, over a million users (`ROWS`): lists, pages, sorts, filters, searches and
the home page. It prints the medians in milliseconds, how many times faster than stock each is, the
tables that a query reads as a whole, what a change of state costs a save, and the memory.
"""

from __future__ import annotations

import os
import re
import resource
import statistics
import sys
import time
from collections.abc import Callable

import django

ROWS = int(os.environ.get("ROWS", "1000000"))
ROUNDS = int(os.environ.get("ROUNDS", "7"))
LARGE = ("users", "users_listentry", "users_clerkaccount")
LIST = "/admin/users/builderuser/"

LOAD = """
INSERT INTO builder_groups (id, name)
SELECT gen_random_uuid(), 'Oak Hill Homes ' || n FROM generate_series(1, %(groups)s) AS n;

CREATE TEMPORARY TABLE made AS
SELECT n, gen_random_uuid() AS id,
    CASE WHEN n %% 10 > 0 THEN 'user_2' || md5(n::text) END AS clerk_id,
    (ARRAY['Mary', 'Władysław', 'José', 'Zoë', 'John', 'Ngozi', 'Anna', 'Priya'])[1 + n %% 8]
        AS first,
    (ARRAY['Smith', 'García', 'Kowalski', 'Brown', 'Nguyen', 'Okafor', 'Müller'])[1 + n %% 7]
        || ' ' || initcap(substr(md5(n::text), 1, 6)) AS last,
    'person' || n || '@' || (ARRAY['example.com', 'oak.example', 'hill.example'])[1 + n %% 3]
        AS email
FROM generate_series(1, %(rows)s) AS n;

INSERT INTO users (id, clerk_id, name, email, role, builder_group_id, created_at, updated_at)
SELECT made.id, clerk_id, first || ' ' || last, email,
    CASE WHEN n %% 100 = 0 THEN 'ADMIN' WHEN n %% 10 = 1 THEN 'HOMEOWNER' ELSE 'BUILDER' END,
    builder_group.id, now() - n * interval '1 minute', now()
FROM made JOIN (
    SELECT id, row_number() OVER () AS number FROM builder_groups
) AS builder_group ON builder_group.number = 1 + n %% %(groups)s;

INSERT INTO users_clerkaccount (
    clerk_id, user_id, email, email_verified, first_name, last_name, banned, locked, image_url,
    two_factor_enabled, password_enabled, providers, seen_at, last_sign_in_at, version, names,
    addresses, note
)
SELECT clerk_id, id, email, true, first,
    CASE WHEN n %% 997 = 0 THEN 'Other' ELSE last END, n %% 1009 = 0, n %% 2003 = 0, '', false,
    true, '[]', now(), CASE WHEN n %% 3 > 0 THEN now() - (n %% 500000) * interval '1 minute' END,
    '', '{}', '{}', ''
FROM made WHERE clerk_id IS NOT NULL;

INSERT INTO users_syncattempt (
    user_id, label, clerk_id, operation, source, changes, details, status, error_code, message,
    trace_id, started_at
)
SELECT id, first, clerk_id, 'update', 'admin', '{}', '{}', 'started', '', '', '', now()
FROM made WHERE n %% (%(rows)s / 200) = 1;
"""
FILL = """
SELECT users_refresh_list(array_agg(id)) FROM users GROUP BY substr(id::text, 1, 2)
"""

VIEWS = {
    "list": {},
    "page 100": {"p": "100"},
    "sort by name": {"o": "1"},
    "sort by email": {"o": "2"},
    "sort by group": {"o": "3"},
    "sort by role": {"o": "4"},
    "sort by state": {"o": "5"},
    "sort by last sign-in": {"o": "-6"},
    "filter: role Admin": {"role": "ADMIN", "role__exact": "ADMIN"},
    "filter: group": {"builder_group__id__exact": "GROUP"},
    "filter: doesn't match": {"clerk": "differs"},
    "filter: waiting": {"clerk": "open"},
    "filter: banned": {"clerk": "banned"},
    "filter: not checked lately": {"checked": "not_lately"},
    "filter: never signed in": {"signed_in": "never"},
    "filter: doesn't match, by name": {"clerk": "differs", "o": "1"},
    "search: wladyslaw": {"q": "wladyslaw"},
    "search: kowalski 1a2": {"q": "kowalski 1a2"},
    "search: person123456@": {"q": "person123456@"},
    "search: example.com": {"q": "example.com"},
    "search: Oak Hill Homes 17": {"q": "oak hill homes 17"},
    "search: ma": {"q": "ma"},
    "search: nobody": {"q": "qqzzxx"},
    "search: wladyslaw, by name": {"q": "wladyslaw", "o": "1"},
}
OURS_ALONE = ("clerk", "checked", "signed_in")
"""Filters that a stock admin does not have."""


def main() -> None:
    """Fill a test database, measure, and delete it."""
    django.setup()
    from django.conf import settings
    from django.db import connection

    settings.DEBUG, settings.ALLOWED_HOSTS = False, ["testserver"]
    own = connection.settings_dict["NAME"]
    connection.creation.create_test_db(verbosity=0, autoclobber=True)
    try:
        load(connection)
        measure(connection)
    finally:
        connection.creation.destroy_test_db(own, verbosity=0)


def load(connection) -> None:
    """Make `ROWS` users with their accounts and entries."""
    started = time.perf_counter()
    with connection.cursor() as cursor:
        for switch in ("DISABLE", "ENABLE"):
            for table in ("users", "users_clerkaccount", "users_syncattempt"):
                cursor.execute(f"ALTER TABLE {table} {switch} TRIGGER USER")
            if switch == "DISABLE":
                cursor.execute(LOAD, {"rows": ROWS, "groups": min(2000, ROWS // 100)})
        cursor.execute("ANALYZE")
        made = time.perf_counter()
        cursor.execute(FILL)
        filled = time.perf_counter()
        cursor.execute("VACUUM ANALYZE")
        cursor.execute("SELECT pg_total_relation_size('users_listentry')")
        size = cursor.fetchone()[0]
    print(
        f"{ROWS:,} users made in {made - started:.0f} s; their entries in {filled - made:.0f} s, "
        f"{size / 2**20:,.0f} MiB"
    )


def measure(connection) -> None:
    """Print the medians of all views of both, and what a change of state costs."""
    from users.models import BuilderGroup

    ours, stock, home = renderers()
    group = str(BuilderGroup.objects.first().pk)
    print(f"{'':32}{'ours':>10}{'stock':>10}{'ratio':>8}")
    for name, query in VIEWS.items():
        query = {key: group if value == "GROUP" else value for key, value in query.items()}
        one = median(lambda query=query: ours(query))
        whole = read_as_a_whole(connection, lambda query=query: ours(query))
        if any(key in query for key in OURS_ALONE) or query.get("o") == "5":
            print(f"{name:32}{one:8.0f}ms{'':18}{whole}")
        else:
            other = median(lambda query=query: stock(query))
            print(f"{name:32}{one:8.0f}ms{other:8.0f}ms{other / one:8.1f}{whole}")
    print(f"{'home':32}{median(home):8.0f}ms")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(50):
        ours({"q": "wladyslaw"})
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(f"memory after 50 more searches: {grown / 1024:+.1f} MiB")
    print(f"a change of state costs {cost_of_a_change(connection):.2f} ms")


def renderers() -> tuple[Callable, Callable, Callable]:
    """Return what renders our list, a stock list, and our home page."""
    from django.contrib import admin
    from django.contrib.messages.storage.cookie import CookieStorage
    from django.test import RequestFactory
    from django.urls import resolve

    from tests.support.factories import StaffFactory
    from users.models import BuilderUser

    class StockAdmin(admin.ModelAdmin):
        list_display = ("name", "email", "builder_group", "role", "created_at", "signed_in")
        list_filter = ("role",)
        list_select_related = ("builder_group", "account")
        search_fields = ("name", "email", "builder_group__name", "clerk_id")
        list_per_page = 50
        show_full_result_count = False

        def lookup_allowed(self, *lookup) -> bool:
            return True

        @admin.display(ordering="account__last_sign_in_at")
        def signed_in(self, user):
            return getattr(getattr(user, "account", None), "last_sign_in_at", None)

    staff = StaffFactory()
    stock_site = admin.AdminSite(name="admin")
    stock_site._registry = {
        **admin.site._registry,
        BuilderUser: StockAdmin(BuilderUser, stock_site),
    }

    def request(path: str, query: dict[str, str]):
        made = RequestFactory().get(path, query)
        made.user, made.session = staff, {}
        made.resolver_match = resolve(path)
        made._messages = CookieStorage(made)
        return made

    def of(site, drop: tuple[str, ...]) -> Callable:
        page = site._registry[BuilderUser]

        def render(query: dict[str, str]) -> None:
            query = {key: value for key, value in query.items() if key not in drop}
            answer = page.changelist_view(request(LIST, query))
            assert answer.status_code == 200, (query, answer)
            answer.render()

        return render

    def home() -> None:
        admin.site.index(request("/admin/", {})).render()

    return of(admin.site, ("role__exact",)), of(stock_site, ("role",)), home


def median(render: Callable) -> float:
    """Return the median of some rounds in milliseconds, after one that warms up."""
    render()
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        render()
        times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times)


def read_as_a_whole(connection, render: Callable) -> str:
    """Name the large tables that a query of the page reads from end to end."""
    from django.test.utils import CaptureQueriesContext

    with CaptureQueriesContext(connection) as captured:
        render()
    found = set()
    with connection.cursor() as cursor:
        for query in captured.captured_queries:
            if query["sql"].startswith("SELECT"):
                cursor.execute(f"EXPLAIN {query['sql']}")
                plan = "\n".join(line for (line,) in cursor.fetchall())
                found |= set(re.findall(r"Seq Scan on (\w+)", plan)) & set(LARGE)
    return f"   reads all of {', '.join(sorted(found))}" if found else ""


def cost_of_a_change(connection) -> float:
    """Return the milliseconds that triggers add to a change of an account."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT clerk_id FROM users_clerkaccount LIMIT 500")
        ids = [clerk_id for (clerk_id,) in cursor.fetchall()]

        def change() -> float:
            times = []
            for clerk_id in ids:
                started = time.perf_counter()
                cursor.execute(
                    "UPDATE users_clerkaccount SET banned = NOT banned WHERE clerk_id = %s",
                    [clerk_id],
                )
                times.append((time.perf_counter() - started) * 1000)
            return statistics.median(times)

        with_triggers = change()
        cursor.execute("ALTER TABLE users_clerkaccount DISABLE TRIGGER USER")
        without = change()
        cursor.execute("ALTER TABLE users_clerkaccount ENABLE TRIGGER USER")
    return with_triggers - without


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "cascade.settings")
    os.environ.setdefault("LOG_LEVEL", "WARNING")
    sys.exit(main())
