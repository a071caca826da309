//! Choices made of bytes; once they are used up, always the first.

pub(super) struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    pub(super) const fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    pub(super) fn next(&mut self) -> usize {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                usize::from(*first)
            }
            None => 0,
        }
    }

    pub(super) fn flip(&mut self) -> bool {
        self.odds(1, 2)
    }

    /// Tells whether something happens that happens `wins` times `of` so many.
    pub(super) fn odds(&mut self, wins: usize, of: usize) -> bool {
        self.next() % of >= of - wins
    }

    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.next() % from.len()]
    }

    /// Up to three.
    pub(super) fn some<T: Copy>(&mut self, from: &[T]) -> Vec<T> {
        (0..self.next() % 4).map(|_| self.pick(from)).collect()
    }

    /// One to three.
    pub(super) fn few<T: Copy>(&mut self, from: &[T]) -> Vec<T> {
        (0..=self.next() % 3).map(|_| self.pick(from)).collect()
    }

    /// A word of the vocabulary, or raw bytes.
    pub(super) fn text(&mut self, vocabulary: &[&str]) -> Vec<u8> {
        let length = self.next() % 32;
        if length > 8 || length == 0 {
            return self.pick(vocabulary).into();
        }
        let (raw, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        raw.to_vec()
    }
}
