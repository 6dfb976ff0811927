//! Distinct names, numbered in order of first appearance.

use crate::index::Index;

#[derive(Debug)]
pub struct Names {
    text: Vec<u8>,
    offsets: Vec<u32>,
    index: Index,
}

impl Names {
    pub fn new() -> Names {
        Names { text: Vec::new(), offsets: vec![0], index: Index::with_room(256) }
    }

    /// The number of a name, whose hash is given; `None` where their text would need more than 32
    /// bits.
    pub fn number_of(&mut self, name: &[u8], hash: u64) -> Option<u32> {
        let end = u32::try_from(self.text.len() + name.len()).ok()?;
        let (text, offsets) = (&self.text, &self.offsets);
        let is_name = |number| name_at(text, offsets, number) == name;
        if let Some(number) = self.index.find_or_add(hash, is_name) {
            return Some(number as u32);
        }
        self.text.extend_from_slice(name);
        self.offsets.push(end);
        Some(self.offsets.len() as u32 - 2)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// All of them, one after the other.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// Where each begins in the text, and where the last one ends.
    pub fn offsets(&self) -> &[u32] {
        &self.offsets
    }

    pub fn get(&self, number: u32) -> &[u8] {
        name_at(&self.text, &self.offsets, number as usize)
    }
}

fn name_at<'a>(text: &'a [u8], offsets: &[u32], number: usize) -> &'a [u8] {
    &text[offsets[number] as usize..offsets[number + 1] as usize]
}
