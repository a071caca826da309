//! YAML to objects, with the place of every field, and diagnostics. Pure.
//!
//! What a file may hold is what an API server with the definitions of `portcullis_api::crds` would take: unknown fields,
//! wrong types and broken rules are errors, defaults are filled in. A file or an object at fault hides no other.

mod diagnostic;
mod identity;
mod kinds;
mod limits;
mod near;
mod objects;
mod pattern;
mod place;
mod policy;
pub mod policy_test;
mod rules;
mod scalar;
mod schema;
mod served;
mod tree;
mod validate;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use portcullis_attachment::{
    finding::{Finding, Severity},
    object::ObjectRef,
    snapshot::Snapshot,
};

pub use self::{
    diagnostic::Diagnostic,
    near::nearest,
    place::Place,
    served::{KindInfo, Served, assemble, kinds},
};
use self::{
    objects::{Item, Objects},
    place::{Position, Step, steps},
    tree::{Node, SyntaxError, Value},
};

/// Everything that a set of files holds. Not printable: the trees hold Secrets.
pub struct Loaded {
    /// The objects without faults, and of policies with faults what is needed to refuse their targets.
    pub snapshot: Snapshot,
    /// What is wrong with the files themselves, by place.
    pub diagnostics: Vec<Diagnostic>,
    files: Vec<String>,
    unreadable: BTreeSet<usize>,
    failed: BTreeSet<usize>,
    origins: BTreeMap<ObjectRef, (usize, Arc<Node>)>,
}

/// Reads files, given as name and text; the names appear in diagnostics as they are.
#[must_use]
pub fn load(files: &[(String, String)]) -> Loaded {
    Reader::default().load(files)
}

/// Reads files again and again: one that says what it said is not read a second time. Not printable: it holds Secrets.
#[derive(Default)]
pub struct Reader {
    known: HashMap<String, Arc<Read>>,
}

/// What one file says.
struct Read {
    text: String,
    errors: Vec<SyntaxError>,
    items: Vec<Item>,
}

impl Read {
    fn new(text: &str) -> Self {
        let documents = tree::parse(text);
        let roots = documents.roots.into_iter();
        Self {
            text: text.to_owned(),
            errors: documents.errors,
            items: roots
                .filter(|root| !matches!(root.value, Value::Null) && !policy_test::is_test(root))
                .flat_map(objects::items)
                .collect(),
        }
    }
}

impl Reader {
    /// Does what [`load`] does.
    #[must_use]
    pub fn load(&mut self, files: &[(String, String)]) -> Loaded {
        let former = std::mem::take(&mut self.known);
        let mut reads = Vec::with_capacity(files.len());
        for (name, text) in files {
            let known = former.get(name).filter(|read| read.text == *text);
            let read = known.map_or_else(|| Arc::new(Read::new(text)), Arc::clone);
            self.known.insert(name.clone(), Arc::clone(&read));
            reads.push(read);
        }
        combine(files, &reads)
    }
}

fn combine(files: &[(String, String)], reads: &[Arc<Read>]) -> Loaded {
    let mut objects = Objects::default();
    let mut diagnostics = Vec::new();
    let mut unreadable = BTreeSet::new();
    for (number, ((name, _), read)) in files.iter().zip(reads).enumerate() {
        for error in &read.errors {
            unreadable.insert(number);
            diagnostics.push(Diagnostic::of_syntax(name, error));
        }
        for item in &read.items {
            objects.take(number, item, files);
        }
    }
    let mut failed = unreadable.clone();
    failed.append(&mut objects.contested);
    for (file, object, fault) in objects.faults {
        if fault.severity == Severity::Error {
            failed.insert(file);
        }
        let file = files.get(file).map(|(name, _)| name.as_str());
        diagnostics.push(Diagnostic::of_object(file, &object, &fault));
    }
    diagnostics.sort();
    Loaded {
        snapshot: objects.snapshot,
        diagnostics,
        files: files.iter().map(|(name, _)| name.clone()).collect(),
        unreadable,
        failed,
        origins: objects.origins,
    }
}

impl Loaded {
    /// Objects that stand in no file.
    fn without_files(snapshot: Snapshot, diagnostics: Vec<Diagnostic>) -> Self {
        Self {
            snapshot,
            diagnostics,
            files: Vec::new(),
            unreadable: BTreeSet::new(),
            failed: BTreeSet::new(),
            origins: BTreeMap::new(),
        }
    }

    /// Finds a field of an object, or else the nearest field around it, or else the object.
    #[must_use]
    pub fn locate(&self, object: &ObjectRef, path: &str) -> Option<Place> {
        let (file, root) = self.origins.get(object)?;
        let file = self.files.get(*file)?;
        Some(find(root, path).in_file(file))
    }

    /// Gives a finding its place.
    #[must_use]
    pub fn diagnose(&self, finding: &Finding) -> Diagnostic {
        Diagnostic {
            place: self.locate(&finding.object, &finding.path),
            severity: finding.severity,
            code: finding.code,
            object: finding.object.to_string(),
            path: finding.path.clone(),
            message: finding.message.clone(),
            fix: finding.fix.clone(),
        }
    }

    /// Names the files of which a part is no YAML: what that part held is not known.
    pub fn unreadable_files(&self) -> impl Iterator<Item = &str> {
        self.unreadable
            .iter()
            .filter_map(|file| self.files.get(*file).map(String::as_str))
    }

    /// Names the files that an API server would not take as a whole: unreadable ones, and those with an object at fault.
    /// Of an object that is there twice, both are.
    pub fn failed_files(&self) -> impl Iterator<Item = &str> {
        self.failed
            .iter()
            .filter_map(|file| self.files.get(*file).map(String::as_str))
    }
}

/// Where a path leads; as far as it goes.
fn find(root: &Node, path: &str) -> Position {
    let mut node = root;
    let mut position = root.position;
    for step in steps(path) {
        match step {
            Step::Field(name) => {
                let Some(entry) = node.entry(&name) else { break };
                position = entry.node.position_under(entry.position);
                node = &entry.node;
            }
            Step::Index(number) => {
                let Value::Sequence(nodes) = &node.value else { break };
                let Some(next) = nodes.get(number) else { break };
                position = next.position;
                node = next;
            }
        }
    }
    position
}
