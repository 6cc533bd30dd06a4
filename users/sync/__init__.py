"""Keep PostgreSQL and Clerk in sync: every rule and every transaction is in here.

The rooms, and who may call whom:

    admin   api   webhooks   tasks   commands
      │
      ▼
    maintenance, diagnostics          what the worker does; what clerk_check finds
      │
      ▼
    bulk/                             plans and runs over many users
      │
      ▼
    services/                         one function for each thing that people do
      │
      ▼
    outbound/   inbound/   mirror/    a change on its way; what Clerk tells; our copy of Clerk
      │
      ▼
    operations/                       each kind of change: what it writes and sends, how it shows
      │
      ▼
    users.clerk, users.models         the gateway; the tables

Beside them, for all rooms: `access/` (who may make which change), `actors` (in whose name),
`messages` (what people are told), `display` (values as people read them).

The life of an edit, from the form to both stores:

    services.users.save_user          compares with what the form was opened with
    access.permissions.authorize      may this person make this change?
    outbound.dual_write               records the attempt, and commits it
    outbound.exchange                 locks the row, writes it, and asks Clerk, in one transaction
      operations.Edit                   sends what changed; judges Clerk's answer
      outbound.completion               attempt applied, account stored, log entry; commit
    outbound.recovery                 resolves the attempt if the outcome stayed unknown

The life of an event:

    inbound.deliveries.receive        records it once
    inbound.facts.join                what it tells, joined with all that was known before
    inbound.decisions.derive          what follows: links, names, emails (a pure function)
    inbound.reconcile                 applies it to the rows, in the same transaction
"""
