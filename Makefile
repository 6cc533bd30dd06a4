# Everything that a newcomer and CI need. Only Python 3.11+ and make are presumed.
PYTHON ?= python3
PORT ?= 8000
SANDBOX_PORT ?= 8001
BIN := .venv/bin/python

.PHONY: install lock demo test lint audit browser pgbouncer nginx bench campaign messages mutants screenshots

install: .venv/installed

.venv/installed: requirements-dev.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Cascade needs Python 3.11 or newer: make PYTHON=python3.11 ..."; exit 1; }
	@test -x $(BIN) || $(PYTHON) -m venv .venv
	@$(BIN) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

# After a change of requirements*.txt. It takes minutes: each file of each package is hashed.
lock:
	@$(BIN) -m piptools compile --quiet --generate-hashes --allow-unsafe --strip-extras \
	  --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options \
	  --output-file requirements-dev.lock requirements-dev.txt

# The demo is an installation of its own: .env of another one must not reach it.
demo: install
	@DEBUG=1 DATABASE_URL='$(DATABASE_URL)' ALLOWED_HOSTS= CSRF_TRUSTED_ORIGINS= PORT=$(PORT) SANDBOX_PORT=$(SANDBOX_PORT) exec $(BIN) -W ignore -m demo

# Each worker has a database, a sandbox and a browser of its own. There are two workers more than
# cores, because tests also wait (tests/conftest.py).
test: install browser pgbouncer nginx
	@$(BIN) -m pytest -n auto --dist worksteal

lint: install audit
	@$(BIN) -m ruff check .
	@$(BIN) -m ruff format --check .
	@DEBUG=1 $(BIN) -W ignore -m mypy cascade demo sandbox staff users manage.py
	@DEBUG=1 .venv/bin/python -W ignore -c 'import sys; from importlinter.cli import lint_imports_command; lint_imports_command()'
	@DEBUG=1 $(BIN) -W ignore manage.py makemigrations --check --dry-run
	@SECRET_KEY=$$($(BIN) -c 'import secrets; print(secrets.token_urlsafe(60))') \
	  ALLOWED_HOSTS=cascade.example.com DATABASE_URL=postgres://nobody@127.0.0.1:9/none \
	  CLERK_WEBHOOK_SIGNING_SECRET=whsec_b25seS1mb3ItbGludA== \
	  $(BIN) -W ignore manage.py check --deploy --fail-level WARNING


# Known vulnerabilities of what runs in production, if the service that knows them can be asked.
audit: install
	@if $(BIN) -c 'import requests; requests.get("https://pypi.org/pypi/django/json", timeout=5).json()["vulnerabilities"]' 2>/dev/null; \
	  then $(BIN) -m pip_audit --requirement requirements.txt --no-deps --disable-pip --progress-spinner off; \
	  else echo "No audit of the dependencies: its service does not answer."; fi

browser:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || test -n "$$CHROMIUM" || \
	  { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && apt-get update -qq && apt-get install -y -qq chromium >/dev/null; } || \
	  { echo "Install Chromium (package chromium), or set CHROMIUM to its path: the browser tests need it."; exit 1; }

pgbouncer:
	@test -x /usr/sbin/pgbouncer || command -v pgbouncer >/dev/null || \
	  { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && apt-get update -qq && apt-get install -y -qq pgbouncer >/dev/null; } || \
	  { echo "Install pgbouncer (package pgbouncer): one test stands behind it."; exit 1; }

# Its tests are skipped where it cannot be installed.
nginx:
	@test -x /usr/sbin/nginx || command -v nginx >/dev/null || \
	  { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && apt-get update -qq && apt-get install -y -qq --no-install-recommends nginx-light >/dev/null; } || \
	  echo "No nginx (package nginx-light): the tests behind it are skipped."

# A picture of each state of the desk: light and dark, desk and phone.
screenshots: install browser
	@SCREENSHOTS=$(CURDIR)/screenshots $(BIN) -m pytest -q tests/test_screens.py
	@PICTURES=1 $(BIN) -m pytest -q tests/test_browser.py
	@echo "See screenshots/, and docs/pictures/ for those of README and docs."

# The words of the pages for translators, in cascade/locale/.
messages: install
	@test -n "$(LOCALE)" || { echo "Name the language: make messages LOCALE=pl"; exit 1; }
	@command -v xgettext >/dev/null || { echo "Install GNU gettext (package gettext): it collects the words."; exit 1; }
	@mkdir -p cascade/locale
	@DEBUG=1 DATABASE_URL=postgres://nobody@127.0.0.1:9/none $(BIN) -W ignore manage.py makemessages \
	  --locale $(LOCALE) --add-location file $(foreach folder,.venv bench demo sandbox tests,--ignore $(folder))
	@echo "See cascade/locale/$(LOCALE)/LC_MESSAGES/django.po, and CONTRIBUTING.md for what comes next."

bench: install
	@DEBUG=1 $(BIN) -W ignore -m bench.save
	@DEBUG=1 $(BIN) -W ignore -m bench.webhooks
	@DEBUG=1 $(BIN) -W ignore -m bench.bulk
	@DEBUG=1 $(BIN) -W ignore -m bench.load
	@DEBUG=1 $(BIN) -W ignore -m bench.lists

campaign: install
	@$(BIN) -W ignore -m tests.campaign --scenarios 5000 --kills 200

# Mutation tests of GROUPS (tests/mutants/plan.py), or of all. cosmic-ray makes the mutants; only
# this needs it, so it has a place of its own.
mutants: install .mutants/installed
	@.mutants/bin/python -W ignore -m tests.mutants $(GROUPS)

.mutants/installed:
	@$(BIN) -m venv .mutants
	@$(BIN) -c 'import site; print(site.getsitepackages()[0])' > $$(.mutants/bin/python -c 'import site; print(site.getsitepackages()[0])')/cascade.pth
	@.mutants/bin/python -m pip install --quiet --disable-pip-version-check cosmic-ray==8.7.0
	@touch $@
