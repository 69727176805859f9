//! The rows of accounts with providers.

use super::database::{AccountsError, Database, RowError, each};
use super::{Aor, KEPT_REMOVALS};
use rusqlite::{
    Connection, OptionalExtension, Row,
    ffi::{SQLITE_CONSTRAINT_FOREIGNKEY, SQLITE_CONSTRAINT_PRIMARYKEY},
    named_params, params,
};
use store::{Password, Provider, ProviderSource};

/// The columns that [`provider`] reads, in its order.
const COLUMNS: &str = "user, domain, name, server, outbound_proxy, provider_user, auth_user, password, realm, sip_from, \
                       contact, headers, sources, enabled";

const INSERT: &str = "INSERT INTO provider (user, domain, name, server, outbound_proxy, provider_user, auth_user, password, \
    realm, sip_from, contact, headers, sources, enabled) VALUES (:user, :domain, :name, :server, :outbound_proxy, \
    :provider_user, :auth_user, :password, :realm, :sip_from, :contact, :headers, :sources, :enabled)";

const UPDATE: &str = "UPDATE provider SET server = :server, outbound_proxy = :outbound_proxy, provider_user = \
    :provider_user, auth_user = :auth_user, password = :password, realm = :realm, sip_from = :sip_from, contact = :contact, \
    headers = :headers, sources = :sources, enabled = :enabled WHERE user = :user AND domain = :domain AND name = :name";

impl Database {
    /// Adds an account with a provider. `owner` is that of the provider.
    pub fn add_provider(&mut self, owner: &Aor, provider: &Provider) -> Result<(), AccountsError> {
        let name = || provider.name.to_string();
        let taken = || AccountsError::NameTaken { kind: "provider", owner: owner.clone(), name: name() };
        let unknown = || AccountsError::Unknown(owner.clone());
        let added = self.write(|transaction| {
            write(transaction, INSERT, owner, provider).map_err(|error| {
                match RowError::on(SQLITE_CONSTRAINT_PRIMARYKEY, taken)(error) {
                    RowError::Sqlite(error) => RowError::on(SQLITE_CONSTRAINT_FOREIGNKEY, unknown)(error),
                    told => told,
                }
            })
        });
        added.map_err(|error| self.told(error))
    }

    /// Changes one by `change`, which leaves owner and name as they are.
    pub fn set_provider(
        &mut self,
        owner: &Aor,
        name: &str,
        change: impl FnOnce(&mut Provider),
    ) -> Result<(), AccountsError> {
        let set = self.write(|transaction| {
            let mut provider = find(transaction, owner, name)?.ok_or_else(|| unknown(owner, name))?;
            change(&mut provider);
            Ok(write(transaction, UPDATE, owner, &provider)?)
        });
        set.map_err(|error| self.told(error))
    }

    /// Removes one.
    pub fn remove_provider(&mut self, owner: &Aor, name: &str) -> Result<(), AccountsError> {
        let removed = self.write(|transaction| {
            transaction.execute(KEPT_REMOVALS, ())?;
            let sql = "DELETE FROM provider WHERE user = ?1 AND domain = ?2 AND name = ?3";
            match transaction.execute(sql, params![owner.user, owner.domain, name])? {
                0 => Err(unknown(owner, name).into()),
                _ => Ok(()),
            }
        });
        removed.map_err(|error| self.told(error))
    }

    /// One of them.
    pub fn show_provider(&self, owner: &Aor, name: &str) -> Result<Provider, AccountsError> {
        let found = find(self.connection(), owner, name).map_err(|error| self.sqlite(error))?;
        found.ok_or_else(|| unknown(owner, name))
    }

    /// Up to `limit` of them, of one owner or of all, in the order of domain, user and name.
    pub fn list_providers(&self, owner: Option<&Aor>, limit: u32) -> Result<Vec<Provider>, AccountsError> {
        let list = || {
            let sql = format!(
                "SELECT {COLUMNS} FROM provider WHERE ?1 IS NULL OR (user = ?1 AND domain = ?2) \
                 ORDER BY domain, user, name LIMIT ?3"
            );
            let owner = owner.map(|owner| (&owner.user, &owner.domain)).unzip();
            let mut select = self.connection().prepare_cached(&sql)?;
            select.query_map(params![owner.0, owner.1, limit], provider)?.collect::<rusqlite::Result<_>>()
        };
        list().map_err(|error| self.sqlite(error))
    }
}

/// Every one that has changed behind the change numbered `after`.
pub(super) fn each_provider(
    connection: &Connection,
    after: i64,
    mut take: impl FnMut(Provider),
) -> rusqlite::Result<()> {
    let sql = format!("SELECT {COLUMNS} FROM provider WHERE changed > ?1");
    each(connection, &sql, [after], |row| provider(row).map(&mut take))
}

fn unknown(owner: &Aor, name: &str) -> AccountsError {
    AccountsError::UnknownName { kind: "provider", owner: owner.clone(), name: name.to_owned() }
}

fn find(connection: &Connection, owner: &Aor, name: &str) -> rusqlite::Result<Option<Provider>> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM provider WHERE user = ?1 AND domain = ?2 AND name = ?3"))?
        .query_row(params![owner.user, owner.domain, name], provider)
        .optional()
}

fn write(connection: &Connection, sql: &str, owner: &Aor, provider: &Provider) -> rusqlite::Result<()> {
    let headers: Vec<String> = provider.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    let sources: Vec<String> = provider.sources.iter().map(ProviderSource::to_string).collect();
    let written = connection.prepare_cached(sql)?.execute(named_params! {
        ":user": owner.user,
        ":domain": owner.domain,
        ":name": &*provider.name,
        ":server": &*provider.server,
        ":outbound_proxy": provider.outbound_proxy.as_deref(),
        ":provider_user": &*provider.user,
        ":auth_user": provider.auth_user.as_deref(),
        ":password": provider.password.reveal(),
        ":realm": provider.realm.as_deref(),
        ":sip_from": provider.from.as_deref(),
        ":contact": provider.contact.as_deref(),
        ":headers": headers.join("\n"),
        ":sources": sources.join(" "),
        ":enabled": provider.enabled,
    });
    written.map(drop)
}

fn provider(row: &Row<'_>) -> rusqlite::Result<Provider> {
    let text = |column: usize| row.get::<_, Box<str>>(column);
    let owner = Aor { user: row.get(0)?, domain: row.get(1)? };
    let (headers, sources) = (text(11)?, text(12)?);
    // What an operator has mistyped in the shell is left out: such a header could not be sent, such a source not match.
    let headers = headers.lines().filter_map(|line| line.split_once(':'));
    Ok(Provider {
        owner: owner.to_string().into(),
        name: text(2)?,
        server: text(3)?,
        outbound_proxy: row.get(4)?,
        user: text(5)?,
        auth_user: row.get(6)?,
        password: Password::new(text(7)?),
        realm: row.get(8)?,
        from: row.get(9)?,
        contact: row.get(10)?,
        headers: headers.map(|(name, value)| (name.trim().into(), value.trim().into())).collect(),
        sources: sources.split_whitespace().filter_map(ProviderSource::parse).collect(),
        enabled: row.get(13)?,
    })
}
