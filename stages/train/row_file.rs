//! A task's training rows in a file without a name: a training holds where each row lies, and reads those of its batch.
//! So a million rows take the memory of their places, and the system keeps as much of the file in its cache as it can spare.
//!
//! Of each row, one after the other: its ids, of 4 bytes, little end first, and its token types, of 1 byte.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{Context, Result};
use bam_contract::artifact::tokens::TokenRows;

/// Bytes of a token.
const SIZE: usize = size_of::<i32>() + size_of::<i8>();

#[derive(Debug)]
pub(super) struct RowFile {
    file: File,
    /// In tokens: where each row begins, and where the last one ends.
    starts: Vec<u64>,
}

#[derive(Debug)]
pub(super) struct RowFileWriter {
    file: BufWriter<File>,
    starts: Vec<u64>,
}

impl RowFileWriter {
    /// A file on the disk of that folder, which is gone when it is closed.
    pub(super) fn create(folder: &Path) -> Result<Self> {
        let file = tempfile::tempfile_in(folder)
            .with_context(|| format!("keeping training rows on the disk of `{}`", folder.display()))?;
        Ok(Self { file: BufWriter::new(file), starts: vec![0] })
    }

    pub(super) fn write(&mut self, rows: &TokenRows) -> Result<()> {
        for row in 0..rows.len() {
            let ids: Vec<u8> = rows.input_ids(row).iter().flat_map(|id| id.to_le_bytes()).collect();
            let types: Vec<u8> = rows.token_type_ids(row).iter().map(|kind| kind.cast_unsigned()).collect();
            self.file.write_all(&ids).and_then(|()| self.file.write_all(&types)).context("keeping training rows")?;
            self.starts.push(self.starts[self.starts.len() - 1] + rows.tokens(row) as u64);
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Result<RowFile> {
        let file = self.file.into_inner().context("keeping training rows")?;
        Ok(RowFile { file, starts: self.starts })
    }
}

impl RowFile {
    pub(super) fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// Number of tokens of a row.
    pub(super) fn tokens(&self, row: usize) -> usize {
        (self.starts[row + 1] - self.starts[row]) as usize
    }

    /// Appends a row's tokens to `rows`, under the row's own number.
    pub(super) fn read(&self, row: usize, rows: &mut TokenRows) -> Result<()> {
        let tokens = self.tokens(row);
        let mut bytes = vec![0; tokens * SIZE];
        self.file.read_exact_at(&mut bytes, self.starts[row] * SIZE as u64).context("reading training rows again")?;
        let (ids, types) = bytes.split_at(tokens * size_of::<i32>());
        let ids: Vec<u32> = ids.as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect();
        let types: Vec<u32> = types.iter().map(|kind| u32::from(*kind)).collect();
        rows.push(row as i64, false, None, &ids, &types, 0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rows_come_back_in_any_order(
            texts in prop::collection::vec(prop::collection::vec((0_u32..50_000, 0_u32..2), 0..9), 1..12),
            chunk in 1_usize..5,
        ) {
            let folder = tempfile::tempdir().unwrap();
            let mut writer = RowFileWriter::create(folder.path()).unwrap();
            for texts in texts.chunks(chunk) {
                let mut rows = TokenRows::default();
                for text in texts {
                    let (ids, types): (Vec<u32>, Vec<u32>) = text.iter().copied().unzip();
                    rows.push(7, true, Some(1.0), &ids, &types, 0);
                }
                writer.write(&rows).unwrap();
            }
            let file = writer.finish().unwrap();
            prop_assert_eq!(file.len(), texts.len());
            let mut read = TokenRows::default();
            for row in (0..texts.len()).rev() {
                file.read(row, &mut read).unwrap();
            }
            for (at, text) in texts.iter().rev().enumerate() {
                let ids: Vec<i32> = text.iter().map(|(id, _)| *id as i32).collect();
                let types: Vec<i8> = text.iter().map(|(_, kind)| *kind as i8).collect();
                prop_assert_eq!((read.input_ids(at), read.token_type_ids(at)), (&ids[..], &types[..]));
                prop_assert_eq!(file.tokens(texts.len() - 1 - at), text.len());
            }
            prop_assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        }
    }
}
