-- Version 2: accounts with providers, dial plans, call detail records, and the users' key-value stores. As with accounts, an
-- operator may edit `provider` and `plan` with the sqlite3 shell: the triggers number every change.

-- The password is kept in the clear, because the switch must answer challenges of any realm with it (RFC 7616 §3.4): this
-- file is its owner's alone.
CREATE TABLE provider (
    user           TEXT NOT NULL,
    domain         TEXT NOT NULL,
    name           TEXT NOT NULL CHECK (name <> ''),
    server         TEXT NOT NULL CHECK (server <> ''),
    outbound_proxy TEXT,
    provider_user  TEXT NOT NULL,
    auth_user      TEXT,
    password       TEXT NOT NULL,
    realm          TEXT,
    sip_from       TEXT,
    contact        TEXT,
    -- Lines of `Name: value`.
    headers        TEXT NOT NULL DEFAULT '',
    -- Words: addresses, networks, hosts.
    sources        TEXT NOT NULL DEFAULT '',
    enabled        INTEGER NOT NULL DEFAULT 1 CHECK (enabled IN (0, 1)),
    changed        INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (domain, user, name),
    FOREIGN KEY (domain, user) REFERENCES account (domain, user) ON DELETE CASCADE ON UPDATE CASCADE
) STRICT, WITHOUT ROWID;

CREATE INDEX provider_changed ON provider (changed);

CREATE TABLE plan (
    user    TEXT NOT NULL,
    domain  TEXT NOT NULL,
    name    TEXT NOT NULL CHECK (name <> ''),
    source  TEXT NOT NULL,
    -- Whether it runs for calls that come in, and for those that go out; one plan of a user each.
    is_in   INTEGER NOT NULL DEFAULT 0 CHECK (is_in IN (0, 1)),
    is_out  INTEGER NOT NULL DEFAULT 0 CHECK (is_out IN (0, 1)),
    -- The number of the change that gave it its text.
    version INTEGER NOT NULL DEFAULT 0,
    changed INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (domain, user, name),
    FOREIGN KEY (domain, user) REFERENCES account (domain, user) ON DELETE CASCADE ON UPDATE CASCADE
) STRICT, WITHOUT ROWID;

CREATE INDEX plan_changed ON plan (changed);
CREATE UNIQUE INDEX plan_in ON plan (domain, user) WHERE is_in;
CREATE UNIQUE INDEX plan_out ON plan (domain, user) WHERE is_out;

-- Providers and plans that have gone, as `removal` is for accounts.
CREATE TABLE named_removal (
    kind    TEXT NOT NULL CHECK (kind IN ('provider', 'plan')),
    user    TEXT NOT NULL,
    domain  TEXT NOT NULL,
    name    TEXT NOT NULL,
    removed INTEGER NOT NULL DEFAULT (unixepoch()),
    changed INTEGER NOT NULL,
    PRIMARY KEY (kind, domain, user, name)
) STRICT, WITHOUT ROWID;

CREATE INDEX named_removal_changed ON named_removal (changed);

CREATE TRIGGER provider_inserted AFTER INSERT ON provider BEGIN
    UPDATE change SET last = last + 1;
    UPDATE provider SET changed = (SELECT last FROM change)
        WHERE domain = NEW.domain AND user = NEW.user AND name = NEW.name;
    DELETE FROM named_removal
        WHERE kind = 'provider' AND domain = NEW.domain AND user = NEW.user AND name = NEW.name;
END;

CREATE TRIGGER provider_updated AFTER UPDATE OF
    user, domain, name, server, outbound_proxy, provider_user, auth_user, password, realm, sip_from, contact, headers,
    sources, enabled
ON provider BEGIN
    UPDATE change SET last = last + 1;
    INSERT OR REPLACE INTO named_removal (kind, user, domain, name, changed)
        SELECT 'provider', OLD.user, OLD.domain, OLD.name, last FROM change;
    UPDATE provider SET changed = (SELECT last FROM change)
        WHERE domain = NEW.domain AND user = NEW.user AND name = NEW.name;
    DELETE FROM named_removal
        WHERE kind = 'provider' AND domain = NEW.domain AND user = NEW.user AND name = NEW.name;
END;

CREATE TRIGGER provider_deleted AFTER DELETE ON provider BEGIN
    UPDATE change SET last = last + 1;
    INSERT OR REPLACE INTO named_removal (kind, user, domain, name, changed)
        SELECT 'provider', OLD.user, OLD.domain, OLD.name, last FROM change;
END;

CREATE TRIGGER plan_inserted AFTER INSERT ON plan BEGIN
    UPDATE change SET last = last + 1;
    UPDATE plan SET changed = (SELECT last FROM change), version = (SELECT last FROM change)
        WHERE domain = NEW.domain AND user = NEW.user AND name = NEW.name;
    DELETE FROM named_removal WHERE kind = 'plan' AND domain = NEW.domain AND user = NEW.user AND name = NEW.name;
END;

CREATE TRIGGER plan_updated AFTER UPDATE OF user, domain, name, source, is_in, is_out ON plan BEGIN
    UPDATE change SET last = last + 1;
    INSERT OR REPLACE INTO named_removal (kind, user, domain, name, changed)
        SELECT 'plan', OLD.user, OLD.domain, OLD.name, last FROM change;
    UPDATE plan SET changed = (SELECT last FROM change),
        version = CASE WHEN OLD.source IS NEW.source THEN version ELSE (SELECT last FROM change) END
        WHERE domain = NEW.domain AND user = NEW.user AND name = NEW.name;
    DELETE FROM named_removal WHERE kind = 'plan' AND domain = NEW.domain AND user = NEW.user AND name = NEW.name;
END;

CREATE TRIGGER plan_deleted AFTER DELETE ON plan BEGIN
    UPDATE change SET last = last + 1;
    INSERT OR REPLACE INTO named_removal (kind, user, domain, name, changed)
        SELECT 'plan', OLD.user, OLD.domain, OLD.name, last FROM change;
END;

-- One row a leg; `call` is the same for all legs of a call. Times are Unix time in milliseconds; a text that is not known
-- is empty. Old rows are the operator's to delete.
CREATE TABLE cdr (
    call         TEXT NOT NULL,
    leg          INTEGER NOT NULL,
    direction    TEXT NOT NULL,
    user         TEXT NOT NULL,
    caller       TEXT NOT NULL,
    callee       TEXT NOT NULL,
    plan         TEXT NOT NULL,
    provider     TEXT NOT NULL,
    account_code TEXT NOT NULL,
    call_id      TEXT NOT NULL,
    source       TEXT NOT NULL,
    attempted_at INTEGER NOT NULL,
    progress_at  INTEGER,
    answered_at  INTEGER,
    ended_at     INTEGER NOT NULL,
    ended_by     TEXT NOT NULL,
    status       INTEGER NOT NULL,
    reason       TEXT NOT NULL,
    PRIMARY KEY (call, leg)
) STRICT, WITHOUT ROWID;

CREATE INDEX cdr_ended ON cdr (ended_at);
CREATE INDEX cdr_user ON cdr (user, ended_at);

-- What scripts keep, by user.
CREATE TABLE kv (
    user   TEXT NOT NULL,
    domain TEXT NOT NULL,
    key    TEXT NOT NULL,
    value  TEXT NOT NULL,
    PRIMARY KEY (domain, user, key)
) STRICT, WITHOUT ROWID;
