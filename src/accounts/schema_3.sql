-- Version 3: rows of CDRs go to the end of their table and of its index, or near it. An index by user goes into as many pages as
-- there are rows, and cost more than twice as much as all the rest of a row; an operator who lists single users out of a
-- long history may have one: CREATE INDEX cdr_user ON cdr (user, ended_at).

DROP INDEX IF EXISTS cdr_user;
