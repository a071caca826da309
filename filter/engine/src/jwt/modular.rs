//! Powers modulo an odd number, by Montgomery multiplication: the public operation of RSA.
//!
//! Everything here is public, and nothing depends on how long it takes. Numbers are digits of 32 bits, the lowest first.

use std::cmp::Ordering;

/// Computes base^exponent mod modulus, as long as the modulus. The numbers are big-endian, the base as long as the modulus.
///
/// `None` for a base that is not below the modulus, and for a modulus that is even or begins with a zero.
#[must_use]
pub(crate) fn power(modulus: &[u8], exponent: u32, base: &[u8]) -> Option<Vec<u8>> {
    let odd = modulus.last().is_some_and(|last| last % 2 == 1);
    let full = modulus.first().is_some_and(|first| *first != 0);
    if !odd || !full || base.len() != modulus.len() || base >= modulus {
        return None;
    }
    let ring = Ring::new(digits(modulus))?;
    let base = ring.product(&digits(base), &ring.square_of_radix());
    let mut result = ring.one();
    for bit in (0..32).rev() {
        result = ring.product(&result, &result);
        if exponent >> bit & 1 == 1 {
            result = ring.product(&result, &base);
        }
    }
    let mut plain = vec![0; ring.modulus.len()];
    *plain.first_mut()? = 1;
    let result = ring.product(&result, &plain);
    let bytes: Vec<u8> = result.iter().rev().flat_map(|digit| digit.to_be_bytes()).collect();
    bytes.get(bytes.len().checked_sub(modulus.len())?..).map(<[u8]>::to_vec)
}

fn digits(bytes: &[u8]) -> Vec<u32> {
    let number = |chunk: &[u8]| chunk.iter().fold(0, |number, byte| number << 8 | u32::from(*byte));
    bytes.rchunks(4).map(number).collect()
}

/// The numbers below a modulus, each held as its product with the radix, 2^(32 * digits).
struct Ring {
    modulus: Vec<u32>,
    /// -1 / modulus mod 2^32
    inverse: u32,
}

impl Ring {
    fn new(modulus: Vec<u32>) -> Option<Self> {
        let lowest = *modulus.first()?;
        // Each round doubles the bits that are right, and an odd number is its own inverse in three.
        let inverse = (0..4).fold(lowest, |inverse: u32, _| {
            inverse.wrapping_mul(2_u32.wrapping_sub(lowest.wrapping_mul(inverse)))
        });
        Some(Self {
            modulus,
            inverse: inverse.wrapping_neg(),
        })
    }

    /// One, as it is held: the radix itself.
    fn one(&self) -> Vec<u32> {
        let mut power = vec![0; self.modulus.len()];
        let zeros = self.modulus.last().map_or(0, |highest| highest.leading_zeros());
        if let Some(highest) = power.last_mut() {
            *highest = 1 << (31 - zeros);
        }
        for _ in 0..=zeros {
            self.double(&mut power);
        }
        power
    }

    /// The radix, as it is held: what turns a number into one that is held.
    fn square_of_radix(&self) -> Vec<u32> {
        let bits = self.modulus.len() * 32;
        let mut power = self.one();
        for bit in (0..usize::BITS - bits.leading_zeros()).rev() {
            power = self.product(&power, &power);
            if bits >> bit & 1 == 1 {
                self.double(&mut power);
            }
        }
        power
    }

    fn double(&self, number: &mut [u32]) {
        let mut carry = 0;
        for digit in number.iter_mut() {
            let doubled = u64::from(*digit) << 1 | carry;
            *digit = low(doubled);
            carry = doubled >> 32;
        }
        self.reduce(number, carry);
    }

    /// Takes the modulus off a number that is below twice the modulus.
    fn reduce(&self, number: &mut [u32], carry: u64) {
        if carry == 0 && number.iter().rev().cmp(self.modulus.iter().rev()) == Ordering::Less {
            return;
        }
        let mut borrow = 0;
        for (digit, subtracted) in number.iter_mut().zip(&self.modulus) {
            let difference = u64::from(*digit)
                .wrapping_sub(u64::from(*subtracted))
                .wrapping_sub(borrow);
            *digit = low(difference);
            borrow = difference >> 63;
        }
    }

    /// The product of two numbers divided by the radix. No sum can exceed 64 bits: a product of two digits leaves room for two more.
    fn product(&self, one: &[u32], other: &[u32]) -> Vec<u32> {
        let mut sum = vec![0; self.modulus.len()];
        let mut next = Vec::with_capacity(sum.len());
        let mut highest = 0_u64;
        for digit in one {
            let (mut carry, mut reduced, mut factor) = (0, 0, None);
            for (place, (part, modulus)) in sum.iter().zip(other.iter().zip(&self.modulus)) {
                let added = (u64::from(*digit) * u64::from(*part))
                    .wrapping_add(u64::from(*place))
                    .wrapping_add(carry);
                carry = added >> 32;
                // The lowest digit becomes zero by it, and is left out.
                let is_lowest = factor.is_none();
                let factor = *factor.get_or_insert_with(|| low(added).wrapping_mul(self.inverse));
                let added = (u64::from(factor) * u64::from(*modulus))
                    .wrapping_add(u64::from(low(added)))
                    .wrapping_add(reduced);
                reduced = added >> 32;
                if !is_lowest {
                    next.push(low(added));
                }
            }
            highest = highest.wrapping_add(carry).wrapping_add(reduced);
            next.push(low(highest));
            highest >>= 32;
            std::mem::swap(&mut sum, &mut next);
            next.clear();
        }
        self.reduce(&mut sum, highest);
        sum
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the lower half is meant")]
const fn low(number: u64) -> u32 {
    number as u32
}

#[cfg(test)]
mod tests {
    use super::power;

    #[test]
    fn small_powers_are_those_of_arithmetic() {
        for modulus in [
            3_u32,
            5,
            255,
            257,
            65_537,
            0x00ff_ffff,
            0x7fff_ffff,
            0x8000_0001,
            0xffff_fffb,
            u32::MAX,
        ] {
            for exponent in [0, 1, 2, 3, 17, 65_537, u32::MAX] {
                for base in [0, 1, 2, 254, 65_536, 0x7654_3210, 0xffff_fffa].map(|base| base % modulus) {
                    let expected = (0..32).rev().fold(1_u64, |result, bit| {
                        let squared = result * result % u64::from(modulus);
                        if exponent >> bit & 1 == 1 {
                            squared * u64::from(base) % u64::from(modulus)
                        } else {
                            squared
                        }
                    });
                    let skip = modulus.leading_zeros() as usize / 8;
                    let (base, modulus) = (base.to_be_bytes(), modulus.to_be_bytes());
                    let power = power(&modulus[skip..], exponent, &base[skip..]);
                    assert_eq!(
                        power,
                        Some(u32::try_from(expected).unwrap().to_be_bytes()[skip..].to_vec())
                    );
                }
            }
        }
    }

    #[test]
    fn fermat_holds_for_a_large_prime() {
        // p = 2^521 - 1, so that x^(p - 1) = 1 is x^(2^521) = x^2.
        let mut prime = vec![0xff; 66];
        prime[0] = 1;
        let base: Vec<u8> = (0..66).collect();
        let raised = (0..26).fold(base.clone(), |power, _| super::power(&prime, 1 << 20, &power).unwrap());
        assert_eq!(power(&prime, 2, &raised), power(&prime, 2, &base));
    }

    #[test]
    fn what_is_no_base_and_no_modulus_is_refused() {
        assert_eq!(power(&[], 3, &[]), None);
        assert_eq!(power(&[4], 3, &[2]), None, "even");
        assert_eq!(power(&[0, 5], 3, &[0, 2]), None, "a zero in front");
        assert_eq!(power(&[5], 3, &[5]), None, "not below");
        assert_eq!(power(&[5], 3, &[0, 2]), None, "longer");
        assert_eq!(power(&[1], 3, &[0]), Some(vec![0]));
    }
}
