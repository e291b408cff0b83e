/*!
What [`Io::open_direct`](super::Io::open_direct) asks of its users, for back ends that need nothing of the kind: a write that
is not of whole blocks is refused by each of them, so that a mistake shows in the simulator and not only on a device.
*/

use super::{Completion, Done, File, Op, is_whole_blocks, not_whole_blocks};
use crate::error::Result;
use std::path::Path;
use std::sync::Arc;

/// A file that takes whole blocks only.
#[derive(Debug)]
pub(super) struct WholeBlocks {
    file: Arc<dyn File>,
}

impl WholeBlocks {
    pub(super) fn new(file: Arc<dyn File>) -> Self {
        WholeBlocks { file }
    }

    fn check(&self, op: &Op) -> Result<()> {
        match op {
            Op::Write { offset, buffer } if !is_whole_blocks(*offset, buffer.len()) => {
                Err(not_whole_blocks(self.path(), *offset))
            }
            _ => Ok(()),
        }
    }
}

impl File for WholeBlocks {
    fn path(&self) -> &Path {
        self.file.path()
    }

    fn submit(&self, op: Op) -> Completion {
        match self.check(&op) {
            Ok(()) => self.file.submit(op),
            Err(error) => Completion::ready(Err(error)),
        }
    }

    fn run(&self, op: Op) -> Result<Done> {
        self.check(&op)?;
        self.file.run(op)
    }

    fn len(&self) -> Result<u64> {
        self.file.len()
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.file.set_len(len)
    }

    fn allocate(&self, len: u64) -> Result<()> {
        if !is_whole_blocks(len, 0) {
            return Err(not_whole_blocks(self.path(), len));
        }
        self.file.allocate(len)
    }
}
