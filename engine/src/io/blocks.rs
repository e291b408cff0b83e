/*!
What [`Io::open_direct`](super::Io::open_direct) asks of its users, for back ends that need nothing of the kind: a write that
is not of whole blocks is refused by each of them, so that a mistake shows in the simulator and not only on a device. A write
that comes back short does so after a whole block, as on a device.
*/

use super::{BUFFER_ALIGN, Buffer, Completion, Done, File, Op, Pending, advance, is_whole_blocks, not_whole_blocks};
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
        if let Err(error) = self.check(&op) {
            return Completion::ready(Err(error));
        }
        match op {
            Op::Write { offset, buffer } => {
                let completion = self.file.submit(Op::Write { offset, buffer });
                Completion::pending(Box::new(Write { file: Arc::clone(&self.file), offset, completion }))
            }
            op => self.file.submit(op),
        }
    }

    fn run(&self, op: Op) -> Result<Done> {
        self.check(&op)?;
        match op {
            Op::Write { offset, buffer } => {
                up_to_a_block(&self.file, offset, self.file.run(Op::Write { offset, buffer }))
            }
            op => self.file.run(op),
        }
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

    fn reserve(&self, len: u64) -> Result<()> {
        if !is_whole_blocks(len, 0) {
            return Err(not_whole_blocks(self.path(), len));
        }
        self.file.reserve(len)
    }
}

/// A write in flight.
#[derive(Debug)]
struct Write {
    file: Arc<dyn File>,
    offset: u64,
    completion: Completion,
}

impl Pending for Write {
    fn is_ready(&self) -> bool {
        self.completion.is_ready()
    }

    fn wait(self: Box<Self>) -> Result<Done> {
        let Write { file, offset, completion } = *self;
        up_to_a_block(&file, offset, completion.wait())
    }
}

/// Writes what is missing of the last block that a write has begun.
fn up_to_a_block(file: &Arc<dyn File>, offset: u64, done: Result<Done>) -> Result<Done> {
    let Done { buffer, bytes } = done?;
    let end = bytes.next_multiple_of(BUFFER_ALIGN);
    if let Some(rest) = buffer.as_ref().and_then(|buffer| buffer.get(bytes..end)).filter(|rest| !rest.is_empty()) {
        file.write_all_at(advance(file.as_ref(), offset, bytes)?, Buffer::from_slice(rest))?;
        return Ok(Done { buffer, bytes: end });
    }
    Ok(Done { buffer, bytes })
}
