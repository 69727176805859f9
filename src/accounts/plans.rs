//! The rows of dial plans.

use super::database::{AccountsError, Database, RowError, each};
use super::{Aor, KEPT_REMOVALS};
use rusqlite::{Connection, OptionalExtension, Row, ffi::SQLITE_CONSTRAINT_FOREIGNKEY, params};
use std::sync::Arc;
use store::{Direction, Plan, PlanText};

/// The columns that [`plan`] reads, in its order.
const COLUMNS: &str = "user, domain, name, source, version, is_in, is_out";

impl Database {
    /// Gives `owner` a plan, or one that he has another text. It runs for calls of the directions named, in the place of
    /// the plan that did; a plan that is there already keeps those which it has.
    pub fn set_plan(
        &mut self,
        owner: &Aor,
        name: &str,
        source: &str,
        directions: &[Direction],
    ) -> Result<(), AccountsError> {
        let unknown = || AccountsError::Unknown(owner.clone());
        let set = self.write(|transaction| {
            let key = params![owner.user, owner.domain, name];
            for direction in directions {
                let sql = match direction {
                    Direction::In => {
                        "UPDATE plan SET is_in = 0 WHERE user = ?1 AND domain = ?2 AND name <> ?3 AND is_in"
                    }
                    Direction::Out => {
                        "UPDATE plan SET is_out = 0 WHERE user = ?1 AND domain = ?2 AND name <> ?3 AND is_out"
                    }
                };
                transaction.execute(sql, key)?;
            }
            let sql = "INSERT INTO plan (user, domain, name, source, is_in, is_out) VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
                       ON CONFLICT DO UPDATE SET source = ?4, is_in = max(is_in, ?5), is_out = max(is_out, ?6)";
            let (is_in, is_out) = (directions.contains(&Direction::In), directions.contains(&Direction::Out));
            transaction
                .execute(sql, params![owner.user, owner.domain, name, source, is_in, is_out])
                .map_err(RowError::on(SQLITE_CONSTRAINT_FOREIGNKEY, unknown))?;
            Ok(())
        });
        set.map_err(|error| self.told(error))
    }

    /// Removes a plan.
    pub fn remove_plan(&mut self, owner: &Aor, name: &str) -> Result<(), AccountsError> {
        let removed = self.write(|transaction| {
            transaction.execute(KEPT_REMOVALS, ())?;
            let sql = "DELETE FROM plan WHERE user = ?1 AND domain = ?2 AND name = ?3";
            match transaction.execute(sql, params![owner.user, owner.domain, name])? {
                0 => Err(unknown(owner, name).into()),
                _ => Ok(()),
            }
        });
        removed.map_err(|error| self.told(error))
    }

    /// One plan.
    pub fn show_plan(&self, owner: &Aor, name: &str) -> Result<Plan, AccountsError> {
        let sql = format!("SELECT {COLUMNS} FROM plan WHERE user = ?1 AND domain = ?2 AND name = ?3");
        let found = self.connection().query_row(&sql, params![owner.user, owner.domain, name], plan).optional();
        found.map_err(|error| self.sqlite(error))?.ok_or_else(|| unknown(owner, name))
    }

    /// Up to `limit` plans, of one owner or of all, in the order of domain, user and name.
    pub fn list_plans(&self, owner: Option<&Aor>, limit: u32) -> Result<Vec<Plan>, AccountsError> {
        let list = || {
            let sql = format!(
                "SELECT {COLUMNS} FROM plan WHERE ?1 IS NULL OR (user = ?1 AND domain = ?2) \
                 ORDER BY domain, user, name LIMIT ?3"
            );
            let owner = owner.map(|owner| (&owner.user, &owner.domain)).unzip();
            let mut select = self.connection().prepare_cached(&sql)?;
            select.query_map(params![owner.0, owner.1, limit], plan)?.collect::<rusqlite::Result<_>>()
        };
        list().map_err(|error| self.sqlite(error))
    }

    /// Shows `take` every plan, one after the other.
    pub fn each_plan(&self, take: impl FnMut(Plan)) -> Result<(), AccountsError> {
        each_plan(self.connection(), -1, take).map_err(|error| self.sqlite(error))
    }
}

/// Every plan that has changed behind the change numbered `after`.
pub(super) fn each_plan(connection: &Connection, after: i64, mut take: impl FnMut(Plan)) -> rusqlite::Result<()> {
    let sql = format!("SELECT {COLUMNS} FROM plan WHERE changed > ?1");
    each(connection, &sql, [after], |row| plan(row).map(&mut take))
}

fn unknown(owner: &Aor, name: &str) -> AccountsError {
    AccountsError::UnknownName { kind: "plan", owner: owner.clone(), name: name.to_owned() }
}

fn plan(row: &Row<'_>) -> rusqlite::Result<Plan> {
    let owner = Aor { user: row.get(0)?, domain: row.get(1)? };
    let text = PlanText {
        owner: owner.to_string().into(),
        name: row.get(2)?,
        source: row.get(3)?,
        version: row.get::<_, i64>(4)?.cast_unsigned(),
    };
    Ok(Plan { text: Arc::new(text), is_in: row.get(5)?, is_out: row.get(6)? })
}
