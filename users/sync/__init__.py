"""Keep PostgreSQL and Clerk in sync. All rules about that are in this package.

The packages, and which may call which:

    admin   api   webhooks   tasks   commands
      │
      ▼
    maintenance, diagnostics          the background work; the checks of clerk_check
    alerts, retention                 mails about what needs people; how long names are kept
    adoption/                         how this application moves onto the tables of another one
      │
      ▼
    bulk/                             plans and runs over many users
      │
      ▼
    services/                         one function for each thing that people do
      │
      ▼
    outbound/   inbound/   mirror/    changes sent to Clerk; events from Clerk; our mirror of Clerk:
    operations/                       each kind of change: what it writes, sends and shows.
                                      These call one another; operations/ never calls outbound/.
      │
      ▼
    users.clerk, users.models         the gateway; the tables

All packages may use `actors` (the authors of changes) and `display` (values as people read them).
All but `operations` may use `access/` (who may make which change) and `messages` (the texts for
what Clerk answers, and for waiting).

The steps of an edit of a linked user's name, from the form to both stores:

    services.users.save_user          says what changed since the form was opened
    access.permissions.authorize      checks that this person may make this change
    outbound.dual_write               records the attempt, and commits it
    outbound.exchange                 locks the row, writes it, and asks Clerk, in one transaction
      outbound.conflicts                compares the row with the values of the opened form
      operations.Edit                   sends what changed; judges Clerk's answer
      outbound.completion               attempt applied, account stored, log entry; commit
    outbound.recovery                 resolves the attempt if the outcome stayed unknown

What Clerk need not be told (a role, a group) is written by `dual_write` itself. `users.guard` keeps
all other code from changing a linked user.

The steps of an event:

    inbound.deliveries.receive        records it once; events that arrive together share a commit
    inbound.events                    reads what it says of one account, by its type (`EFFECTS`)
                                      resolves the pending change that it confirms
    mirror.store                      merges it with all that was known before (`facts.join`)
    inbound.reconcile                 in the same transaction:
      inbound.loading                   loads and locks what is concerned
      inbound.decisions.derive          derives links, names and emails (a pure function)
      inbound.applying                  writes them, with their journal
"""
