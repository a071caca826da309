//! Regular expressions: only what Envoy's RE2 accepts, with the meaning that it has there.

use regex_syntax::ast::{self, Ast};

/// The largest repetition count that RE2 compiles, nested ones multiplied (`kMaxRepeat`).
const MAX_REPEAT: u32 = 1000;

/// The longest accepted pattern, in bytes.
const MAX_LENGTH: usize = 4096;

/// Checks that a pattern compiles, in Envoy too.
///
/// # Errors
///
/// Says what is wrong, without repeating the pattern.
pub(crate) fn check(pattern: &str) -> Result<(), String> {
    if pattern.len() > MAX_LENGTH {
        return Err(format!("it is longer than {MAX_LENGTH} bytes"));
    }
    let parsed = ast::parse::ParserBuilder::new()
        .nest_limit(100)
        .build()
        .parse(pattern)
        .map_err(|error| error.kind().to_string())?;
    let unicode = ast::visit(&parsed, Dialect::default())?;
    // Without Unicode classes every class is small in RE2, `\w` too: then the size here must not count them as large.
    regex::bytes::RegexBuilder::new(pattern)
        .unicode(unicode)
        .size_limit(1 << 20)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => "it is too large when compiled".to_owned(),
            _ => "it does not compile".to_owned(),
        })?;
    Ok(())
}

/// A pattern that matches a text and nothing else.
pub(crate) fn literal(text: &str) -> String {
    regex_syntax::escape(text)
}

/// Refuses what the two dialects read differently, or RE2 does not read.
#[derive(Default)]
struct Dialect {
    /// The product of the repetition counts around.
    repeats: Vec<u32>,
    /// Whether something stands for characters beyond ASCII.
    unicode: bool,
}

impl Dialect {
    fn flags(flags: &ast::Flags) -> Result<(), String> {
        let known = flags.items.iter().all(|item| match item.kind {
            ast::FlagsItemKind::Negation => true,
            ast::FlagsItemKind::Flag(flag) => matches!(
                flag,
                ast::Flag::CaseInsensitive | ast::Flag::MultiLine | ast::Flag::DotMatchesNewLine | ast::Flag::SwapGreed
            ),
        });
        if known {
            Ok(())
        } else {
            Err("it uses a flag other than i, m, s and U".to_owned())
        }
    }

    fn literal(&mut self, literal: &ast::Literal) -> Result<(), String> {
        self.unicode |= !literal.c.is_ascii();
        match &literal.kind {
            ast::LiteralKind::HexFixed(kind) | ast::LiteralKind::HexBrace(kind) if *kind != ast::HexLiteralKind::X => {
                Err("it uses \\u or \\U; write \\x{...}".to_owned())
            }
            _ => Ok(()),
        }
    }

    fn class(&mut self, class: &ast::ClassUnicode) -> Result<(), String> {
        self.unicode = true;
        const SCRIPTS: [&str; 12] = [
            "Arabic",
            "Armenian",
            "Cyrillic",
            "Devanagari",
            "Georgian",
            "Greek",
            "Han",
            "Hangul",
            "Hebrew",
            "Hiragana",
            "Katakana",
            "Latin",
        ];
        const CATEGORIES: [&str; 37] = [
            "C", "Cc", "Cf", "Co", "Cs", "L", "Ll", "Lm", "Lo", "Lt", "Lu", "M", "Mc", "Me", "Mn", "N", "Nd", "Nl",
            "No", "P", "Pc", "Pd", "Pe", "Pf", "Pi", "Po", "Ps", "S", "Sc", "Sk", "Sm", "So", "Z", "Zl", "Zp", "Zs",
            "Any",
        ];
        let known = match &class.kind {
            ast::ClassUnicodeKind::OneLetter(letter) => CATEGORIES.contains(&letter.to_string().as_str()),
            ast::ClassUnicodeKind::Named(name) => {
                CATEGORIES.contains(&name.as_str()) || SCRIPTS.contains(&name.as_str())
            }
            ast::ClassUnicodeKind::NamedValue { .. } => false,
        };
        if known {
            Ok(())
        } else {
            Err("it names a Unicode class that RE2 does not have".to_owned())
        }
    }

    fn count(repetition: &ast::Repetition) -> u32 {
        match &repetition.op.kind {
            ast::RepetitionKind::Range(
                ast::RepetitionRange::Exactly(most)
                | ast::RepetitionRange::AtLeast(most)
                | ast::RepetitionRange::Bounded(_, most),
            ) => (*most).max(1),
            _ => 1,
        }
    }
}

impl ast::Visitor for Dialect {
    type Output = bool;
    type Err = String;

    fn finish(self) -> Result<bool, String> {
        Ok(self.unicode)
    }

    fn visit_pre(&mut self, ast: &Ast) -> Result<(), String> {
        match ast {
            Ast::Flags(set) => Self::flags(&set.flags),
            Ast::Literal(literal) => self.literal(literal),
            Ast::ClassUnicode(class) => self.class(class),
            Ast::Assertion(assertion) => match assertion.kind {
                ast::AssertionKind::StartLine
                | ast::AssertionKind::EndLine
                | ast::AssertionKind::StartText
                | ast::AssertionKind::EndText
                | ast::AssertionKind::WordBoundary
                | ast::AssertionKind::NotWordBoundary => Ok(()),
                _ => Err("it uses a kind of word boundary that RE2 does not have".to_owned()),
            },
            Ast::Group(group) => match &group.kind {
                ast::GroupKind::NonCapturing(flags) => Self::flags(flags),
                ast::GroupKind::CaptureName { name, .. }
                    if !name
                        .name
                        .bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') =>
                {
                    Err("it names a group with characters other than letters, digits and _".to_owned())
                }
                _ => Ok(()),
            },
            Ast::Repetition(repetition) => {
                let around = self.repeats.last().copied().unwrap_or(1);
                let product = around.saturating_mul(Self::count(repetition));
                self.repeats.push(product);
                if product > MAX_REPEAT {
                    return Err(format!("it repeats more than {MAX_REPEAT} times"));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn visit_post(&mut self, ast: &Ast) -> Result<(), String> {
        if matches!(ast, Ast::Repetition(_)) {
            self.repeats.pop();
        }
        Ok(())
    }

    fn visit_class_set_item_pre(&mut self, item: &ast::ClassSetItem) -> Result<(), String> {
        match item {
            // `[a[b]]` is a set of sets here and the set `a`, `[`, `b` followed by `]` in RE2.
            ast::ClassSetItem::Bracketed(_) => Err("it has an unescaped [ inside a class; write \\[".to_owned()),
            ast::ClassSetItem::Literal(literal) => self.literal(literal),
            ast::ClassSetItem::Range(range) => self.literal(&range.start).and_then(|()| self.literal(&range.end)),
            ast::ClassSetItem::Unicode(class) => self.class(class),
            _ => Ok(()),
        }
    }

    fn visit_class_set_binary_op_pre(&mut self, _: &ast::ClassSetBinaryOp) -> Result<(), String> {
        Err("it uses &&, -- or ~~ inside a class; escape the second character".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_what_both_dialects_read_alike() {
        let cases: [&str; 5] = [
            "/orders/[0-9]+",
            "(?i)/a|/b",
            r"/(?P<name>\w{1,1000})",
            r"\x{e9}\pL[\p{Greek}\d]",
            "(a{30}){30}",
        ];
        for pattern in cases {
            assert_eq!(check(pattern), Ok(()), "{pattern}");
        }
    }

    #[test]
    fn refuses_what_re2_reads_otherwise_or_not() {
        let cases: [&str; 12] = [
            "(",                                                    // unclosed
            "(?=a)",                                                // look ahead
            r"(a)\1",                                               // back reference
            "(?x)a b",                                              // verbose
            r"\u00e9",                                              // unicode escape
            "[a[b]]",                                               // nested class
            "[a-z&&b]",                                             // intersection
            r"\b{start}a",                                          // word start
            "a{1001}",                                              // repeats
            "(a{100}){100}",                                        // nested repeats
            r"\p{Alphabetic}",                                      // property
            "[a-z0-9]{1000}|(x[a-z]{900}){1}|[a-z]{999}|\\pL{900}", // too large
        ];
        for pattern in cases {
            assert!(check(pattern).is_err(), "{pattern}");
        }
    }
}
