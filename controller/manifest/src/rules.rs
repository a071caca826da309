//! CEL rules of schemas (`x-kubernetes-validations`).

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use cel::{Context, Env, Program, Value, extensions};
use serde_json::Value as Json;

/// The environment of all rules: the standard library and the text functions that Kubernetes adds.
static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut env = Env::stdlib();
    // Fails only if the extension was added before.
    let _ = env.add_extension(extensions::strings);
    Arc::new(env)
});

/// Programs by their source: schemas repeat their rules, and parsing one takes a millisecond.
static PROGRAMS: LazyLock<Mutex<HashMap<String, Arc<Program>>>> = LazyLock::new(Mutex::default);

/// A rule that a value must satisfy.
pub(crate) struct Rule {
    program: Arc<Program>,
    /// What to say when it does not.
    pub(crate) message: String,
}

impl Rule {
    /// Compiles a rule; `None` if it is no CEL.
    pub(crate) fn new(source: &str, message: &str) -> Option<Self> {
        let mut programs = PROGRAMS.lock().unwrap_or_else(PoisonError::into_inner);
        let program = match programs.get(source) {
            Some(program) => Arc::clone(program),
            None => {
                let program = Arc::new(ENVIRONMENT.compile(source).ok()?);
                programs.insert(source.to_owned(), Arc::clone(&program));
                program
            }
        };
        Some(Self {
            program,
            message: message.to_owned(),
        })
    }
}

/// The rules that a value does not satisfy; an error, as for an API server, does not.
pub(crate) fn broken<'rules>(rules: &'rules [Rule], value: &Json) -> Vec<&'rules Rule> {
    if rules.is_empty() {
        return Vec::new();
    }
    let mut context = Context::with_env(Arc::clone(&ENVIRONMENT));
    context.add_variable_from_value("self", convert(value));
    // Only compared with each other, so any order-preserving number will do.
    let _ = context.add_function("duration", |text: Arc<String>| milliseconds(&text).unwrap_or(i64::MIN));
    rules
        .iter()
        .filter(|rule| !matches!(rule.program.execute(&context), Ok(Value::Bool(true))))
        .collect()
}

/// A JSON value as CEL sees it: whole numbers are `int`, as a schema declares them.
fn convert(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => number
            .as_i64()
            .map(Value::Int)
            .or_else(|| number.as_f64().map(Value::Float))
            .unwrap_or(Value::Null),
        Json::String(text) => Value::String(Arc::new(text.clone())),
        Json::Array(values) => Value::List(Arc::new(values.iter().map(convert).collect())),
        Json::Object(fields) => {
            let fields: HashMap<String, Value> = fields
                .iter()
                .map(|(name, value)| (name.clone(), convert(value)))
                .collect();
            Value::from(fields)
        }
    }
}

/// The length of a Gateway API duration (GEP-2257) in milliseconds.
fn milliseconds(text: &str) -> Option<i64> {
    let mut total = 0_i64;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, tail) = rest.split_at_checked(digits)?;
        let unit = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at_checked(unit)?;
        let factor = match unit {
            "h" => 3_600_000,
            "m" => 60_000,
            "s" => 1_000,
            "ms" => 1,
            _ => return None,
        };
        total = total.checked_add(number.parse::<i64>().ok()?.checked_mul(factor)?)?;
        rest = tail;
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Rule, broken, milliseconds};

    #[test]
    fn rules_see_what_kubernetes_shows_them() {
        for (source, value, holds) in [
            ("has(self.a) && !has(self.b)", json!({"a": 1}), true),
            ("self.all(x, x in ['a', 'b'])", json!(["a", "b"]), true),
            ("self.all(x, x in ['a', 'b'])", json!(["a", "c"]), false),
            ("self.exists(x, has(x.a.b))", json!([{"a": {"b": 0}}]), true),
            ("self.lowerAscii() != 'host'", json!("HOST"), false),
            ("size(self) <= 2 && self.size() <= 2", json!("äö"), true),
            ("self.n <= self.d", json!({"n": 1, "d": 100}), true),
            (
                "duration(self.a) < duration(self.b)",
                json!({"a": "900ms", "b": "1s"}),
                true,
            ),
            ("self.missing == 1", json!({}), false),
            ("self", json!("true"), false),
        ] {
            let rule = Rule::new(source, "").unwrap_or_else(|| panic!("{source} does not compile"));
            assert_eq!(broken(&[rule], &value).is_empty(), holds, "{source} of {value}");
        }
    }

    #[test]
    fn durations_add_up() {
        assert_eq!(milliseconds("1h30m"), Some(5_400_000));
        assert_eq!(milliseconds("1s500ms"), Some(1_500));
        assert_eq!(milliseconds("1x"), None);
        assert_eq!(milliseconds("1"), None);
        assert_eq!(milliseconds(""), None);
    }
}
