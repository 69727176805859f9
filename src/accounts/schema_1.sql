-- Version 1: the accounts. An operator may edit `account` with the sqlite3 shell: the triggers number every change, so
-- that a running switch finds it. Digests are H(A1) of RFC 7616 with the domain as realm, in hexadecimal; NULL means that
-- the account cannot answer a challenge of that algorithm.

CREATE TABLE account (
    user             TEXT NOT NULL CHECK (user <> ''),
    domain           TEXT NOT NULL CHECK (domain <> '' AND domain = lower(domain)),
    ha1_md5          TEXT CHECK (length(ha1_md5) = 32 AND ha1_md5 NOT GLOB '*[^0-9a-fA-F]*'),
    ha1_sha256       TEXT CHECK (length(ha1_sha256) = 64 AND ha1_sha256 NOT GLOB '*[^0-9a-fA-F]*'),
    ha1_sha512_256   TEXT CHECK (length(ha1_sha512_256) = 64 AND ha1_sha512_256 NOT GLOB '*[^0-9a-fA-F]*'),
    enabled          INTEGER NOT NULL DEFAULT 1 CHECK (enabled IN (0, 1)),
    may_relay        INTEGER NOT NULL DEFAULT 0 CHECK (may_relay IN (0, 1)),
    -- NULL: as the registrar's configuration says.
    max_bindings     INTEGER CHECK (max_bindings BETWEEN 1 AND 1000),
    max_expires_secs INTEGER CHECK (max_expires_secs BETWEEN 1 AND 31536000),
    -- Unix time in seconds.
    created          INTEGER NOT NULL DEFAULT (unixepoch()),
    -- Set by the triggers.
    changed          INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (domain, user)
) STRICT, WITHOUT ROWID;

CREATE INDEX account_changed ON account (changed);

-- Names that have gone, until they come again or nobody can have missed it.
CREATE TABLE removal (
    user    TEXT NOT NULL,
    domain  TEXT NOT NULL,
    removed INTEGER NOT NULL DEFAULT (unixepoch()),
    changed INTEGER NOT NULL,
    PRIMARY KEY (domain, user)
) STRICT, WITHOUT ROWID;

CREATE INDEX removal_changed ON removal (changed);

-- The number of the last change.
CREATE TABLE change (
    id   INTEGER PRIMARY KEY CHECK (id = 1),
    last INTEGER NOT NULL
) STRICT;

INSERT INTO change VALUES (1, 0);

CREATE TRIGGER account_inserted AFTER INSERT ON account BEGIN
    UPDATE change SET last = last + 1;
    UPDATE account SET changed = (SELECT last FROM change) WHERE domain = NEW.domain AND user = NEW.user;
    DELETE FROM removal WHERE domain = NEW.domain AND user = NEW.user;
END;

CREATE TRIGGER account_updated AFTER UPDATE OF
    user, domain, ha1_md5, ha1_sha256, ha1_sha512_256, enabled, may_relay, max_bindings, max_expires_secs, created
ON account BEGIN
    UPDATE change SET last = last + 1;
    INSERT OR REPLACE INTO removal (user, domain, changed) SELECT OLD.user, OLD.domain, last FROM change;
    UPDATE account SET changed = (SELECT last FROM change) WHERE domain = NEW.domain AND user = NEW.user;
    -- Unless the account was renamed, this is what the line above it put there.
    DELETE FROM removal WHERE domain = NEW.domain AND user = NEW.user;
END;

CREATE TRIGGER account_deleted AFTER DELETE ON account BEGIN
    UPDATE change SET last = last + 1;
    INSERT OR REPLACE INTO removal (user, domain, changed) SELECT OLD.user, OLD.domain, last FROM change;
END;
