-- The tables of the other application that concern us, as its live database has them.
-- Production differs in places: columns added by hand, constraints missing. Times have no zone and hold UTC.
create type user_role as enum ('ADMIN', 'HOMEOWNER', 'BUILDER');
create table builder_groups (
  id uuid primary key default gen_random_uuid(),
  name text not null,
  email text,
  enrollment_slug text unique,
  created_at timestamp default now()
);
create table users (
  id uuid primary key default gen_random_uuid(),
  clerk_id text constraint users_clerk_id_unique unique,
  name text not null,
  email text not null constraint users_email_unique unique,
  role user_role default 'ADMIN',
  password text,
  internal_role text,
  builder_group_id uuid references builder_groups (id),
  created_at timestamp default now(),
  email_notify_claim_submitted boolean default true, email_notify_homeowner_accepts_appointment boolean default true,
  email_notify_sub_accepts_appointment boolean default true, email_notify_homeowner_reschedule_request boolean default true,
  email_notify_task_assigned boolean default true, email_notify_homeowner_enrollment boolean default true,
  notify_claims boolean default true, notify_tasks boolean default true, notify_appointments boolean default true,
  notify_claim_submit boolean default true, notify_appt_accept_homeowner boolean default true, notify_appt_accept_sub boolean default true,
  notify_reschedule boolean default true, notify_new_task boolean default true, notify_new_message boolean default true,
  notify_new_enrollment boolean default true,
  push_notify_claim_submitted boolean default false, push_notify_homeowner_accepts_appointment boolean default false,
  push_notify_sub_accepts_appointment boolean default false, push_notify_homeowner_reschedule_request boolean default false,
  push_notify_task_assigned boolean default false, push_notify_homeowner_message boolean default false,
  push_notify_homeowner_enrollment boolean default false
);
create table homeowners (
  id uuid primary key default gen_random_uuid(), name text not null, email text, password text,
  builder_user_id uuid references users (id), builder_group_id uuid references builder_groups (id)
);
create table appointments (id uuid primary key default gen_random_uuid(), created_by_id uuid references users (id));
