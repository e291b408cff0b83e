//! The manifest's decoders for `crate::fuzzing`.

use super::file::{self, Current};
use super::state::{Edit, State};

/// An edit's fields: what is read is written the same way.
pub(crate) fn edit(bytes: &[u8]) {
    let Ok(edit) = Edit::decode(bytes) else { return };
    let mut again = Vec::new();
    if edit.encode(&mut again).is_ok() {
        assert_eq!(Edit::decode(&again).ok().as_ref(), Some(&edit), "an edit does not come back as it was");
    }
    let mut state = State::default();
    if state.apply(edit).is_ok() {
        let mut copy = State::default();
        let applied = copy.apply(state.as_edit());
        assert!(applied.is_ok() && copy == state, "a state does not come back from its edit");
    }
}

/// A whole file, as it is and with checksums, length and places set right.
pub(crate) fn file(bytes: &[u8]) {
    let _ = file::read(bytes);
    let _ = file::read(&file::sealed(bytes));
}

/// `CURRENT`: as it is, and with its checksum set right.
pub(crate) fn current(bytes: &[u8]) {
    let _ = Current::decode(bytes);
    if let Some((line, _)) = std::str::from_utf8(bytes).ok().and_then(|text| text.rsplit_once(' ')) {
        let sealed = format!("{line} {:08x}\n", crc32c::crc32c(line.as_bytes()));
        let _ = Current::decode(sealed.as_bytes());
    }
}
