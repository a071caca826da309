//! What a plain scalar means: YAML 1.2's core schema, so that `no` and `on` stay texts.

use crate::tree::Value;

/// Reads a plain scalar.
pub(crate) fn resolve(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    if let Some(number) = integer(text) {
        return Value::Int(number);
    }
    if is_float(text)
        && let Ok(number) = text.parse::<f64>()
    {
        return Value::Float(number);
    }
    Value::String(text.to_owned())
}

fn integer(text: &str) -> Option<i64> {
    if let Some(digits) = text.strip_prefix("0x") {
        return i64::from_str_radix(digits, 16)
            .ok()
            .filter(|_| !digits.starts_with(['+', '-']));
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return i64::from_str_radix(digits, 8)
            .ok()
            .filter(|_| !digits.starts_with(['+', '-']));
    }
    text.parse().ok()
}

/// Digits with a fraction or an exponent; infinities and not-a-number are texts, as JSON has neither.
fn is_float(text: &str) -> bool {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let mut seen_digit = false;
    digits.char_indices().all(|(at, c)| match c {
        '0'..='9' => {
            seen_digit = true;
            true
        }
        '.' => true,
        'e' | 'E' => at > 0,
        '+' | '-' => digits.get(..at).is_some_and(|before| before.ends_with(['e', 'E'])),
        _ => false,
    }) && seen_digit
}

#[cfg(test)]
mod tests {
    use super::resolve;
    use crate::tree::Value;

    fn shown(text: &str) -> String {
        match resolve(text) {
            Value::Null => "null".to_owned(),
            Value::Bool(value) => format!("bool {value}"),
            Value::Int(value) => format!("int {value}"),
            Value::Float(value) => format!("float {value}"),
            Value::String(value) => format!("string {value}"),
            Value::Sequence(_) | Value::Mapping(_) => "collection".to_owned(),
        }
    }

    #[test]
    fn plain_scalars_follow_the_core_schema() {
        for (text, meaning) in [
            ("", "null"),
            ("~", "null"),
            ("true", "bool true"),
            ("no", "string no"),
            ("on", "string on"),
            ("80", "int 80"),
            ("-1", "int -1"),
            ("0x1f", "int 31"),
            ("0o17", "int 15"),
            ("1.5", "float 1.5"),
            ("1e3", "float 1000"),
            ("1.2.3.4", "string 1.2.3.4"),
            ("10.0.0.0/8", "string 10.0.0.0/8"),
            ("e3", "string e3"),
            ("inf", "string inf"),
            ("99999999999999999999", "float 100000000000000000000"),
            ("0x+1", "string 0x+1"),
        ] {
            assert_eq!(shown(text), meaning, "{text:?}");
        }
    }
}
