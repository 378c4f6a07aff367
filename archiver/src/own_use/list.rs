//! `list`: the names in an archive, in its order. Nothing is said before all of it is proven.

use std::fmt::Write as _;
use std::io::{stdout, BufWriter, Write};
use std::path::PathBuf;

use super::{flush, operands, say};
use crate::archive_file::{open, ArchiveFile};
use crate::cli::{settle, wrong};
use crate::entry::{Entry, Kind};
use crate::error::{readable, Result};
use crate::parent::Input;
use crate::tar::read::Found;

/// How a name is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// One line, with escapes for what would break it.
    Name,
    /// Mode, owner, size, and time in UTC before it; behind it where it leads.
    Long,
    /// Its bytes, and a NUL.
    Null,
}

/// The command.
pub fn run(args: lexopt::Parser) -> Result<()> {
    let (mut long, mut null) = (false, false);
    let [path] = operands(args, ["FILE"], |option| {
        long |= option == "long";
        null |= option == "null";
        matches!(option, "long" | "null")
    })?
    .map(PathBuf::from);
    let form = match (long, null) {
        (false, false) => Form::Name,
        (true, false) => Form::Long,
        (false, true) => Form::Null,
        (true, true) => return Err(wrong("--long and --null are two different forms")),
    };
    let file = open(&path)?;
    settle(&[], &[], Input::None)?;
    list(&ArchiveFile::prove(file, &path)?, form, &mut BufWriter::new(stdout().lock()))
}

pub(super) fn list(archive: &ArchiveFile, form: Form, output: &mut impl Write) -> Result<()> {
    archive.scan(archive.data().start..archive.tail().end, &mut |found| match found {
        Found::Entry(entry) => say(output, &line(&entry, form)),
        Found::Data(_) => Ok(()),
    })?;
    flush(output)
}

fn line(entry: &Entry, form: Form) -> Vec<u8> {
    let name = |path: &[u8]| if path.is_empty() { ".".to_owned() } else { readable(path) };
    match form {
        Form::Name => format!("{}\n", name(&entry.path)).into_bytes(),
        Form::Null => [if entry.path.is_empty() { b"." } else { &entry.path[..] }, b"\0"].concat(),
        Form::Long => {
            let mut text = format!(
                "{} {}/{} {:>12} {} {}",
                mode(entry),
                entry.uid,
                entry.gid,
                entry.size,
                utc(entry.mtime.seconds),
                name(&entry.path)
            );
            match entry.kind {
                Kind::Symlink => write!(text, " -> {}", readable(&entry.target)),
                Kind::HardLink => write!(text, " link to {}", readable(&entry.target)),
                _ => Ok(()),
            }
            .unwrap_or_default(); // text takes all
            text.push('\n');
            text.into_bytes()
        }
    }
}

/// As `ls -l` writes it.
fn mode(entry: &Entry) -> String {
    let kind = match entry.kind {
        Kind::File => '-',
        Kind::Directory => 'd',
        Kind::Symlink => 'l',
        Kind::HardLink => 'h',
        Kind::CharacterDevice => 'c',
        Kind::BlockDevice => 'b',
        Kind::Fifo => 'p',
        Kind::Socket => 's',
    };
    let mut text = String::from(kind);
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = entry.mode >> shift;
        text.push(if bits & 4 > 0 { 'r' } else { '-' });
        text.push(if bits & 2 > 0 { 'w' } else { '-' });
        text.push(match (entry.mode & special > 0, bits & 1 > 0) {
            (false, false) => '-',
            (false, true) => 'x',
            (true, false) => letter.to_ascii_uppercase(),
            (true, true) => letter,
        });
    }
    text
}

/// `2026-12-01 09:30:00`, in UTC. By Howard Hinnant's `civil_from_days`, for years of any sign.
pub(super) fn utc(seconds: i64) -> String {
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Time;

    #[test]
    fn times_are_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00"),
            (951_782_400, "2000-02-29 00:00:00"),
            (1_764_581_400, "2025-12-01 09:30:00"),
            (-1, "1969-12-31 23:59:59"),
            (4_107_542_400, "2100-03-01 00:00:00"),
        ] {
            assert_eq!(utc(seconds), text);
        }
    }

    #[test]
    fn lines_are_lines() {
        let link = Entry {
            target: b"x\ny".to_vec(),
            mode: 0o777,
            mtime: Time { seconds: 0, nanos: 0 },
            ..Entry::new("a\nb", Kind::Symlink)
        };
        assert_eq!(line(&link, Form::Name), b"a\\nb\n");
        assert_eq!(line(&link, Form::Null), b"a\nb\0");
        assert_eq!(line(&link, Form::Long), b"lrwxrwxrwx 0/0            0 1970-01-01 00:00:00 a\\nb -> x\\ny\n");
        assert_eq!(line(&Entry::new("", Kind::Directory), Form::Null), b".\0");
        let sticky = Entry { mode: 0o7644, ..Entry::new("f", Kind::File) };
        assert_eq!(mode(&sticky), "-rwSr-Sr-T");
    }
}
