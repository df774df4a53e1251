//! Where a recording is going to be.

use crate::error::TraceError;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Path, PathBuf};

/// The place of a recording that is not yet begun. What was there stays until [`Place::keep`], and readers of it keep what they
/// have mapped: a recording is a new file, which takes the name.
#[derive(Debug)]
pub struct Place {
    pub(crate) path: PathBuf,
    pub(crate) file: File,
    how: How,
}

#[derive(Debug)]
enum How {
    /// A file with a name of its own beside `target`, whose name it takes. None once it has.
    Beside { temporary: Option<PathBuf>, target: PathBuf },
    /// A device, a pipe, or a file in a directory that takes no new ones.
    There,
}

/// What a path leads to, whether or not there is something.
fn behind_links(path: &Path) -> io::Result<PathBuf> {
    if let Ok(there) = fs::canonicalize(path) {
        return Ok(there);
    }
    let mut at = path.to_path_buf();
    for _ in 0..40 {
        match fs::read_link(&at) {
            Ok(to) => at = at.parent().unwrap_or(Path::new("")).join(to),
            Err(_) => return Ok(at),
        }
    }
    Err(io::Error::other("too many symbolic links"))
}

/// A new file in a directory.
fn new_file(dir: &Path) -> io::Result<(PathBuf, File)> {
    let mut n = 0;
    loop {
        let path = dir.join(format!(".racewalk-{}-{n}", std::process::id()));
        match File::options().write(true).create_new(true).open(&path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && n < 1000 => n += 1,
            r => return r.map(|f| (path, f)),
        }
    }
}

/// Whether two paths lead to one file.
pub fn same_file(a: &Path, b: &Path) -> bool {
    let id = |p: &Path| fs::metadata(p).map(|m| (m.dev(), m.ino())).ok();
    id(a).is_some_and(|a| id(b) == Some(a))
}

impl Place {
    /// Opens a file for a recording that is to be at `path`. Nothing that is there changes.
    pub fn open(path: &Path) -> Result<Place, TraceError> {
        let create = |e| TraceError::io("create", path)(e);
        let there = fs::metadata(path).ok();
        let existing = match &there {
            // A file that must not be written to is not replaced either.
            Some(_) => Some(File::options().write(true).open(path).map_err(create)?),
            None => None,
        };
        let place = |how, file| Place { path: path.into(), file, how };
        let existing = match (existing, &there) {
            (Some(f), Some(m)) if !m.is_file() => return Ok(place(How::There, f)),
            (existing, _) => existing,
        };
        let target = behind_links(path).map_err(create)?;
        let dir = target.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
        match (new_file(dir), existing) {
            (Ok((temporary, file)), _) => {
                if let Some(m) = there {
                    // As well as the host lets us.
                    let _ = fchown(&file, Some(m.uid()), Some(m.gid()));
                    let _ = file.set_permissions(m.permissions());
                }
                Ok(place(How::Beside { temporary: Some(temporary), target }, file))
            }
            (Err(_), Some(f)) => Ok(place(How::There, f)),
            (Err(e), None) => Err(create(e)),
        }
    }

    /// Whether what is there is written over as soon as a [`Writer`](crate::Writer) begins.
    pub fn is_there(&self) -> bool {
        matches!(self.how, How::There)
    }

    /// Gives the recording its name, which leads to nothing else from then on.
    pub fn keep(mut self) -> Result<(), TraceError> {
        if let How::Beside { temporary, target } = &mut self.how
            && let Some(from) = temporary
        {
            fs::rename(from, target).map_err(TraceError::io("replace", &self.path))?;
            *temporary = None
        }
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let How::Beside { temporary: Some(t), .. } = &self.how {
            let _ = fs::remove_file(t);
        }
    }
}
