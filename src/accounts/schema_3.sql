-- Version 3: rows of CDRs are only ever appended, to the table and to its index. An index by user goes into as many pages as
-- there are rows, and cost more than twice as much as all the rest of a row; an operator who lists users' rows out of a
-- long history may have one: CREATE INDEX cdr_user ON cdr (user, ended_at). With the user in it this one finds them by time.

DROP INDEX cdr_user;
DROP INDEX cdr_ended;
CREATE INDEX cdr_ended ON cdr (ended_at, user);
