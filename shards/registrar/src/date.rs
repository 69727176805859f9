//! The Date header (RFC 3261 §20.17), which always tells GMT.

use std::fmt;

/// The date of a second, written once and told to all who ask within it.
#[derive(Debug, Default)]
pub(crate) struct Date {
    text: String,
    second: u64,
}

impl Date {
    /// The RFC 1123 date of `second`, counted since the Unix epoch.
    pub(crate) fn at(&mut self, second: u64) -> &str {
        if self.text.is_empty() || self.second != second {
            self.text.clear();
            write(second, &mut self.text).expect("a string that only grows takes everything");
            self.second = second;
        }
        &self.text
    }
}

const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

const SECS_PER_DAY: u64 = 86_400;
/// Days of 400 Gregorian years.
const DAYS_PER_ERA: u64 = 146_097;

fn write(second: u64, out: &mut impl fmt::Write) -> fmt::Result {
    let (days, secs) = (second / SECS_PER_DAY, second % SECS_PER_DAY);
    // Years that begin with March put the leap day last. 719,468 days lie between 0000-03-01 and the epoch.
    let shifted = days + 719_468;
    let (era, day) = (shifted / DAYS_PER_ERA, shifted % DAYS_PER_ERA);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // Months from March on: 31, 30, 31, 30, 31, over and over.
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) = (era * 400 + year + month / 10, (month + 2) % 12);
    write!(
        out,
        "{}, {day:02} {} {year:04} {:02}:{:02}:{:02} GMT",
        WEEKDAYS[(days % 7) as usize],
        MONTHS[month as usize],
        secs / 3600,
        secs / 60 % 60,
        secs % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let mut date = Date::default();
        for (second, text) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (951_782_399, "Mon, 28 Feb 2000 23:59:59 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (1_289_690_899, "Sat, 13 Nov 2010 23:28:19 GMT"),
            (1_800_000_000, "Fri, 15 Jan 2027 08:00:00 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
        ] {
            assert_eq!(date.at(second), text);
            assert_eq!(date.at(second), text);
        }
    }
}
