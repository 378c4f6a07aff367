//! What one name of a tree is, and the canonical bytes from which both fingerprints are made.
//!
//! An `Entry` comes from the file system (`walk`) or from a tar header (`tar::read`); for the same thing both give the
//! same content fingerprint. That lets an archive be checked against the walk, and a restored tree against the archive,
//! without holding either.

/// Of a path in bytes, four times what the kernel takes at once. A chain of directories has a name for each of its
/// directories, so time and space for all of them grow with the square of this.
pub const LONGEST_PATH: usize = 1 << 14;
/// Of one component.
pub const NAME_MAX: usize = 255;
/// POSIX ACLs as the kernel shows them: extended attributes with a binary value and numeric ids.
pub const ACL_ACCESS: &[u8] = b"system.posix_acl_access";
/// The ACL that a directory hands to what is made in it.
pub const ACL_DEFAULT: &[u8] = b"system.posix_acl_default";

/// The kinds of names. The value is the tar type flag; a socket exists on disk only, an archive does not carry it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    File = b'0',
    HardLink = b'1',
    Symlink = b'2',
    CharacterDevice = b'3',
    BlockDevice = b'4',
    Directory = b'5',
    Fifo = b'6',
    Socket = b's',
}

impl Kind {
    /// True for both kinds of devices.
    pub fn is_device(self) -> bool {
        matches!(self, Self::CharacterDevice | Self::BlockDevice)
    }
}

/// A point in time: `nanos` count upwards from `seconds`, also before 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    pub seconds: i64,
    pub nanos: u32,
}

/// One name of a tree.
///
/// `path` is relative, without a leading `./` or a trailing `/`; that of the root is empty. `size` is that of a regular
/// file, else 0. `target` is where a symbolic link points, or the first name (in archive order) of a further name's
/// group. `xattrs` are sorted by name, ACLs are among them. `inode` and `ctime` are 0 where the entry comes from a tar
/// header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub path: Vec<u8>,
    pub kind: Kind,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub size: u64,
    pub mtime: Time,
    pub target: Vec<u8>,
    pub device: (u32, u32),
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub inode: u64,
    pub ctime: Time,
}

impl Entry {
    /// An entry of this kind, with everything else empty or 0.
    pub fn new(path: impl Into<Vec<u8>>, kind: Kind) -> Self {
        Self {
            path: path.into(),
            kind,
            mode: 0,
            uid: 0,
            gid: 0,
            size: 0,
            mtime: Time::default(),
            target: Vec::new(),
            device: (0, 0),
            xattrs: Vec::new(),
            inode: 0,
            ctime: Time::default(),
        }
    }

    /// True for an overlay file system's mark that a name is gone: the character device 0/0, which opens nothing.
    pub fn is_whiteout(&self) -> bool {
        self.kind == Kind::CharacterDevice && self.device == (0, 0)
    }
}

/// A content fingerprint: three sums of digests, one for each entry. Adding makes that of a tree from those of its parts.
///
/// `base` is over all that any owner of the files can set, `ids` over owner and group, `privileged` over `trusted.*`,
/// `security.*` and other attributes that need rights to set: a restore without those rights compares `base` alone, and
/// counts what it left out. Sums need no order, so segments, tail and a parallel restore agree with one walk. They guard
/// against accidents, not against someone who makes up trees: stored bytes are guarded by the digests of segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Content {
    pub base: u128,
    pub ids: u64,
    pub privileged: u64,
}

impl Content {
    /// The fingerprint of one entry: everything that a restore must bring back.
    pub fn of(entry: &Entry) -> Self {
        let mut prefix = Vec::with_capacity(128 + entry.path.len() + entry.target.len());
        prefix.push(b'B');
        put_bytes(&mut prefix, &entry.path);
        if entry.kind == Kind::HardLink {
            prefix[0] = b'H';
            prefix.extend_from_slice(&entry.target);
            return Self { base: digest16(&prefix), ..Self::default() };
        }
        let named = prefix.len();
        let mut base = prefix.clone();
        base.push(entry.kind as u8);
        let mode = if entry.kind == Kind::Symlink { 0o777 } else { entry.mode & 0o7777 };
        base.extend_from_slice(&(mode as u16).to_be_bytes());
        base.extend_from_slice(&entry.size.to_be_bytes());
        base.extend_from_slice(&entry.mtime.seconds.to_be_bytes());
        base.extend_from_slice(&entry.mtime.nanos.to_be_bytes());
        base.extend_from_slice(&entry.device.0.to_be_bytes());
        base.extend_from_slice(&entry.device.1.to_be_bytes());
        let target: &[u8] = if entry.kind == Kind::Symlink { &entry.target } else { b"" };
        put_bytes(&mut base, target);
        prefix[0] = b'P';
        for (name, value) in &entry.xattrs {
            let share = if is_privileged(name) { &mut prefix } else { &mut base };
            put_bytes(share, name);
            put_bytes(share, value);
        }
        let privileged = if prefix.len() > named { digest8(&prefix) } else { 0 };
        prefix.truncate(named);
        prefix[0] = b'I';
        prefix.extend_from_slice(&u64::from(entry.uid).to_be_bytes());
        prefix.extend_from_slice(&u64::from(entry.gid).to_be_bytes());
        Self { base: digest16(&base), ids: digest8(&prefix), privileged }
    }

    /// The fingerprint of both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            base: self.base.wrapping_add(other.base),
            ids: self.ids.wrapping_add(other.ids),
            privileged: self.privileged.wrapping_add(other.privileged),
        }
    }

    /// 64 hex digits behind `b3:`, as manifest and frames hold it: base, ids, privileged, big endian.
    pub fn text(self) -> String {
        format!("b3:{:032x}{:016x}{:016x}", self.base, self.ids, self.privileged)
    }

    /// The inverse of `text`.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix("b3:").filter(|digits| is_digits(digits, 64))?;
        Some(Self {
            base: u128::from_str_radix(&digits[..32], 16).ok()?,
            ids: u64::from_str_radix(&digits[32..48], 16).ok()?,
            privileged: u64::from_str_radix(&digits[48..], 16).ok()?,
        })
    }
}

/// A digest as manifest and frames hold it: its algorithm, and 64 hex digits.
pub fn digest_text(digest: &blake3::Hash) -> String {
    format!("b3:{}", digest.to_hex())
}

/// The inverse of `digest_text`.
pub fn parse_digest(text: &str) -> Option<blake3::Hash> {
    let digits = text.strip_prefix("b3:").filter(|digits| is_digits(digits, 64))?;
    blake3::Hash::from_hex(digits).ok()
}

/// True for an extended attribute that an ordinary owner of the file may be unable to set.
pub fn is_privileged(name: &[u8]) -> bool {
    !name.starts_with(b"user.") && name != ACL_ACCESS && name != ACL_DEFAULT
}

/// What the change fingerprint is made of, appended to `out`: it says whether something moved, under one volume uid.
///
/// Of the root, mode and ids stand in for its ctime: being renamed (into the trash) changes that and nothing else.
pub fn put_change(out: &mut Vec<u8>, entry: &Entry) {
    put_bytes(out, &entry.path);
    out.push(entry.kind as u8);
    out.extend_from_slice(&entry.size.to_be_bytes());
    out.extend_from_slice(&entry.inode.to_be_bytes());
    out.extend_from_slice(&entry.mtime.seconds.to_be_bytes());
    out.extend_from_slice(&entry.mtime.nanos.to_be_bytes());
    if entry.path.is_empty() {
        out.extend_from_slice(&(u64::from(entry.uid) << 32 | u64::from(entry.gid)).to_be_bytes());
        out.extend_from_slice(&entry.mode.to_be_bytes());
    } else {
        out.extend_from_slice(&entry.ctime.seconds.to_be_bytes());
        out.extend_from_slice(&entry.ctime.nanos.to_be_bytes());
    }
}

/// True for a relative name that stays below its root and can be written: no empty, `.` or `..` component, no NUL, none
/// beyond `NAME_MAX`, and not longer than `LONGEST_PATH`.
pub fn is_clean_path(path: &[u8]) -> bool {
    path.len() <= LONGEST_PATH
        && !path.contains(&0)
        && path
            .split(|byte| *byte == b'/')
            .all(|part| !part.is_empty() && part != b"." && part != b".." && part.len() <= NAME_MAX)
}

/// Archive order: bytewise, component by component, a directory before what it holds.
pub fn compare_paths(one: &[u8], other: &[u8]) -> std::cmp::Ordering {
    let key = |byte: &u8| if *byte == b'/' { 0 } else { *byte }; // no name holds a NUL
    one.iter().map(key).cmp(other.iter().map(key))
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
    out.extend_from_slice(bytes);
}

fn is_digits(text: &str, count: usize) -> bool {
    text.len() == count && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn digest16(data: &[u8]) -> u128 {
    let digest = blake3::hash(data);
    u128::from_be_bytes(digest.as_bytes()[..16].try_into().expect("16 of 32 bytes"))
}

fn digest8(data: &[u8]) -> u64 {
    let digest = blake3::hash(data);
    u64::from_be_bytes(digest.as_bytes()[..8].try_into().expect("8 of 32 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Entry {
        Entry { mode: 0o644, uid: 7, size: 3, ..Entry::new(*b"a/b", Kind::File) }
    }

    #[test]
    fn fingerprints_add_up_and_come_back_from_text() {
        let (one, other) = (Content::of(&file()), Content::of(&Entry::new(*b"c", Kind::Directory)));
        assert_eq!(one.plus(other), other.plus(one));
        assert_eq!(Content::parse(&one.text()), Some(one));
        assert_eq!(Content::parse("b3:12"), None);
        assert_eq!(Content::parse(&one.text().to_uppercase()), None);
        assert_eq!(one.text().len(), 67);
    }

    #[test]
    fn each_share_depends_on_its_own_fields() {
        let plain = Content::of(&file());
        let owned = Content::of(&Entry { uid: 8, ..file() });
        assert_eq!((plain.base, plain.privileged), (owned.base, owned.privileged));
        assert_ne!(plain.ids, owned.ids);
        let attributes = vec![(b"trusted.x".to_vec(), b"1".to_vec())];
        let trusted = Content::of(&Entry { xattrs: attributes, ..file() });
        assert_eq!((plain.base, plain.ids), (trusted.base, trusted.ids));
        assert_ne!(plain.privileged, trusted.privileged);
        for changed in [
            Entry { mode: 0o600, ..file() },
            Entry { size: 4, ..file() },
            Entry { mtime: Time { seconds: 0, nanos: 1 }, ..file() },
            Entry { xattrs: vec![(b"user.x".to_vec(), b"1".to_vec())], ..file() },
            Entry { path: b"a/c".to_vec(), ..file() },
        ] {
            assert_ne!(Content::of(&changed).base, plain.base);
        }
    }

    #[test]
    fn the_root_may_be_renamed() {
        let root = Entry::new(*b"", Kind::Directory);
        let (mut one, mut other) = (Vec::new(), Vec::new());
        put_change(&mut one, &root);
        put_change(&mut other, &Entry { ctime: Time { seconds: 9, nanos: 9 }, ..root.clone() });
        assert_eq!(one, other);
        other.clear();
        put_change(&mut other, &Entry { mode: 0o700, ..root });
        assert_ne!(one, other);
    }

    #[test]
    fn clean_paths_stay_below() {
        for clean in [&b"a"[..], b"a/b c", b"\xff", b"..a/.b"] {
            assert!(is_clean_path(clean));
        }
        let long = [b'x'; 256];
        for unclean in [&b""[..], b"/a", b"a/", b"a//b", b".", b"a/..", b"a\0", &long] {
            assert!(!is_clean_path(unclean));
        }
    }

    #[test]
    fn order_is_by_component() {
        assert_eq!(compare_paths(b"a/x", b"a b"), std::cmp::Ordering::Less);
        assert_eq!(compare_paths(b"a", b"a/x"), std::cmp::Ordering::Less);
    }
}
