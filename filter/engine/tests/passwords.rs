//! Password hashes: against what other implementations made, and what is no hash of a password that could match.
#![expect(clippy::unwrap_used, clippy::string_slice, reason = "a test fails by panicking")]

use portcullis_engine::credential::password::{PasswordHash, Unusable};

const BCRYPT: &str = "$2y$04$abcdefghijklmnopqrstuuPp7HPfoAs8I2dCQCQ/fW7zEJv8I8C8e";

/// Lines of `vectors/passwords.txt`.
fn vectors() -> impl Iterator<Item = (&'static str, &'static str)> {
    include_str!("vectors/passwords.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split_once('\t').unwrap())
}

#[test]
fn passwords_match_the_hashes_that_others_made() {
    let mut count = 0;
    for (password, text) in vectors() {
        let hash = PasswordHash::parse(text).unwrap_or_else(|error| panic!("{text}: {error:?}"));
        assert!(hash.matches(password.as_bytes()), "{password:?} {text}");
        count += 1;
    }
    assert!(count > 80, "{count} vectors");
}

#[test]
fn no_other_password_matches() {
    for (password, text) in vectors() {
        let hash = PasswordHash::parse(text).unwrap();
        let bytes = password.as_bytes();
        let flipped = bytes.split_first().map(|(first, rest)| [&[first ^ 1], rest].concat());
        let others = [
            [bytes, b"x"].concat(),
            [b" ", bytes].concat(),
            [bytes, b"\0"].concat(),
            [bytes, b"\0", bytes].concat(),
            [bytes, b"\0x"].concat(),
            bytes.repeat(2).into_iter().chain([b'!']).collect(),
            flipped.unwrap_or_else(|| b"\0".to_vec()),
        ];
        for other in others {
            assert!(!hash.matches(&other), "{other:?} {text}");
        }
    }
}

#[test]
fn what_a_scheme_would_not_read_is_not_ignored() {
    let longest = "a".repeat(72);
    for (_, text) in vectors().filter(|(password, text)| *password == longest && text.starts_with('$')) {
        let hash = PasswordHash::parse(text).unwrap();
        assert!(hash.matches(longest.as_bytes()));
        assert!(!hash.matches("a".repeat(73).as_bytes()));
        assert!(!hash.matches("a".repeat(1000).as_bytes()));
    }
    // Made of 73 bytes.
    let hash = PasswordHash::parse("$6$rounds=1000$saltsalt$F0HuBDZxkgbR8zSWi0/QW1VuDC8R1yHv488StA9rBD8K6jqLa0VyP.N48zo3DcqByb39oTXkUtnd/O/U8Oz09/").unwrap();
    assert!(!hash.matches("a".repeat(73).as_bytes()));
}

/// Two hashes at their caps, in the time of this machine: for the eye only.
#[test]
fn the_costliest_hashes() {
    for text in [
        "$2y$10$abcdefghijklmnopqrstuuPp7HPfoAs8I2dCQCQ/fW7zEJv8I8C8e",
        "$5$rounds=50000$saltsalt$z3t6rrtFn3lMdv6AmvXeEFzPOKLJ2JypZJIYx/pmpp/",
        "$6$rounds=50000$saltsalt$VujKQZzQbDEUl3DrJwM1DxD5yUvNz7l/I9OKuC4Ufj16O6r3LLhoQIQWOf0muwWY89loyFl4nmczip6Lygmxq.",
        "$apr1$abcdefgh$82JubPF2dQkt1tVfvLnXS.",
    ] {
        let hash = PasswordHash::parse(text).unwrap();
        for length in [8, 72] {
            let start = std::time::Instant::now();
            assert!(!hash.matches(&vec![b'p'; length]));
            println!(
                "{} {length} bytes: {:?}, said {} us",
                &text[..3],
                start.elapsed(),
                hash.cost()
            );
        }
    }
}

#[test]
fn hashes_that_no_password_can_match_are_refused() {
    use Unusable::{Malformed, TooCostly, Unsupported};
    let sha_crypt = |text: &str| format!("{text}$z3t6rrtFn3lMdv6AmvXeEFzPOKLJ2JypZJIYx/pmpp/");
    let owned = [
        (sha_crypt("$5$rounds=1000$saltsalt"), None),
        (sha_crypt("$5$saltsalt"), None),
        (sha_crypt("$5$rounds=50000$saltsalt"), None),
        (sha_crypt("$5$rounds=50001$saltsalt"), Some(TooCostly)),
        (sha_crypt("$5$rounds=999999999$saltsalt"), Some(TooCostly)),
        (sha_crypt("$5$rounds=9999999999$saltsalt"), Some(Malformed)),
        (sha_crypt("$5$rounds=999$saltsalt"), Some(Malformed)),
        (sha_crypt("$5$rounds=01000$saltsalt"), Some(Malformed)),
        (sha_crypt("$5$rounds=+1000$saltsalt"), Some(Malformed)),
        (sha_crypt("$5$rounds=$saltsalt"), Some(Malformed)),
        (sha_crypt("$5$Rounds=1000$saltsalt"), Some(Malformed)),
        (sha_crypt("$5$"), Some(Malformed)),
        (sha_crypt("$5$0123456789abcdef"), None),
        (sha_crypt("$5$0123456789abcdefg"), Some(Malformed)),
        (sha_crypt("$5$salt salt"), Some(Malformed)),
        (sha_crypt("$5$salt:salt"), Some(Malformed)),
        (sha_crypt("$6$saltsalt"), Some(Malformed)),
        (format!("{}.", sha_crypt("$5$saltsalt")), Some(Malformed)),
        (sha_crypt("$5$saltsalt").replace("pmpp/", "pmpp"), Some(Malformed)),
        (sha_crypt("$5$saltsalt").replace("pmpp/", "pmpz/"), None),
        (sha_crypt("$5$saltsalt").replace("pmpp/", "pmppz"), Some(Malformed)),
        (sha_crypt("$5$saltsalt").replace("pmpp/", "pmp-/"), Some(Malformed)),
        (BCRYPT.to_owned(), None),
        (BCRYPT.replace("$2y$", "$2x$"), Some(Unsupported)),
        (BCRYPT.replace("$2y$", "$2$"), Some(Unsupported)),
        (BCRYPT.replace("$04$", "$10$"), None),
        (BCRYPT.replace("$04$", "$11$"), Some(TooCostly)),
        (BCRYPT.replace("$04$", "$14$"), Some(TooCostly)),
        (BCRYPT.replace("$04$", "$31$"), Some(TooCostly)),
        (BCRYPT.replace("$04$", "$32$"), Some(Malformed)),
        (BCRYPT.replace("$04$", "$03$"), Some(Malformed)),
        (BCRYPT.replace("$04$", "$4$"), Some(Malformed)),
        (BCRYPT.replace("$04$", "$+4$"), Some(Malformed)),
        (BCRYPT.replace("uuPp7", "uvPp7"), Some(Malformed)),
        (BCRYPT.replace("8C8e", "8C8"), Some(Malformed)),
        (BCRYPT.replace("8C8e", "8C8ee"), Some(Malformed)),
        (BCRYPT.replace("8C8e", "8C8f"), Some(Malformed)),
        ("$apr1$abcdefgh$82JubPF2dQkt1tVfvLnXS.".to_owned(), None),
        ("$apr1$abcdefghi$82JubPF2dQkt1tVfvLnXS.".to_owned(), Some(Malformed)),
        ("$apr1$$82JubPF2dQkt1tVfvLnXS.".to_owned(), Some(Malformed)),
        ("$apr1$abcdefgh$82JubPF2dQkt1tVfvLnXSz".to_owned(), Some(Malformed)),
        ("$1$abcdefgh$82JubPF2dQkt1tVfvLnXS.".to_owned(), Some(Unsupported)),
        ("{SHA}LnNEJV8jKtmfFq9Xj5SGUhsNZSU=".to_owned(), None),
        ("{SHA}LnNEJV8jKtmfFq9Xj5SGUhsNZSU".to_owned(), Some(Malformed)),
        ("{SHA}LnNEJV8jKtmfFq9Xj5SGUhsNZSV=".to_owned(), Some(Malformed)),
        ("{SHA}LnNEJV8jKtmfFq9Xj5SGUhsNZSU= ".to_owned(), Some(Malformed)),
        ("{SHA}LnNEJV8jKtmfFq9Xj5SGUhsNZS==".to_owned(), Some(Malformed)),
        ("{SHA}".to_owned(), Some(Malformed)),
        ("{sha}LnNEJV8jKtmfFq9Xj5SGUhsNZSU=".to_owned(), Some(Unsupported)),
        ("{SSHA}LnNEJV8jKtmfFq9Xj5SGUhsNZSU=".to_owned(), Some(Unsupported)),
        (
            "$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA".to_owned(),
            Some(Unsupported),
        ),
        ("$y$j9T$salt$hash".to_owned(), Some(Unsupported)),
        ("rqXexS6ZhobKA".to_owned(), Some(Unsupported)),
        ("password".to_owned(), Some(Unsupported)),
        ("$".to_owned(), Some(Unsupported)),
        ("$2y$".to_owned(), Some(Malformed)),
        (String::new(), Some(Unsupported)),
    ];
    for (text, expected) in owned {
        assert_eq!(PasswordHash::parse(&text).err(), expected, "{text}");
    }
}

#[test]
fn nothing_prints_a_hash() {
    let hash = PasswordHash::parse(BCRYPT).unwrap();
    assert_eq!(format!("{hash:?}"), "PasswordHash([redacted])");
}
