//! Where the archive is to go. What stands in its way fails no task, so it is a warning.

use std::fs;
use std::io::ErrorKind;

use super::directories::{Floor, Room};
use super::{Check, CheckName, Here};
use crate::adapters::archive::Destination;
use crate::config::could_be_written;

/// A journal, a transcript and a diff, well packed.
const ARCHIVE: Floor = Floor {
    bytes: 64 << 20,
    inodes: 16,
};

/// None where no archive is asked for.
pub(super) fn check(here: &Here<'_>) -> Option<Check> {
    let name = CheckName::Archive;
    let folder = match here.settings.archive.as_ref()? {
        // To ask would be to put something there.
        Destination::Put(put) => {
            return Some(Check::ok(
                name,
                format!("goes to {} by PUT, which is not asked", put.host()),
            ));
        }
        Destination::Folder(folder) => folder,
    };
    let path = folder.display();
    let usable = fs::metadata(folder).and_then(|found| {
        // It is not made: where a mount is missing, the archive would go with the container.
        if found.is_dir() {
            could_be_written(folder)
        } else {
            Err(ErrorKind::NotADirectory.into())
        }
    });
    if let Err(error) = usable {
        let found = format!("{path}: {error}: no archive would be kept");
        return Some(Check::warn(
            name,
            found,
            "mount a folder there that this user may write",
        ));
    }
    Some(match Room::at(folder, &ARCHIVE) {
        Some(Room {
            free,
            wanted: Some(wanted),
        }) => Check::warn(name, format!("{path}: {free}"), wanted),
        Some(Room { free, wanted: None }) => Check::ok(name, format!("{path}: {free}")),
        None => Check::ok(name, path.to_string()),
    })
}
