//! Other directories that a site-packages directory names: `.pth` files, and the editable installs
//! that use them.
//!
//! Lines that `site` would execute are not executed: of those, the ones that build back ends write are understood.
//! setuptools writes `import __editable___x_finder` and a module with a `MAPPING`; hatchling, pdm and others write
//! `import _editable_impl_x` and a module that calls `F.map_module`; all of them write plain paths where that will do.

use super::roots::{Root, read_source};
use econtext_pysource::{Lexer, TokenKind};
use std::fs;
use std::path::{Path, PathBuf};

/// The roots that the `.pth` files of a directory name, in the order of `site`.
pub(super) fn roots(site: &Path) -> Vec<Root> {
    let mut files: Vec<PathBuf> = fs::read_dir(site)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "pth") && !is_hidden(path))
        .collect();
    files.sort();
    let mut found = Vec::new();
    for file in files {
        let Some(text) = read_source(&file) else { continue };
        for line in String::from_utf8_lossy(&text).trim_start_matches('\u{feff}').lines() {
            let line = line.trim_end();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match line.strip_prefix("import ").or_else(|| line.strip_prefix("import\t")) {
                None => found.extend(directory(&site.join(line))),
                Some(names) => {
                    for name in names.split([',', ';']).map(str::trim).filter(|n| n.contains("editable_")) {
                        let source = read_source(&site.join(format!("{name}.py"))).unwrap_or_default();
                        found.extend(mapped(&source).iter().filter_map(|(name, path)| module(name, path)));
                    }
                }
            }
        }
    }
    found
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'))
}

/// The root of a source tree. It may hold private files: only its modules and the files in packages
/// are served.
fn directory(path: &Path) -> Option<Root> {
    let path = fs::canonicalize(path).ok().filter(|path| path.is_dir())?;
    Some(Root { path, data: false, only: None })
}

/// The root of one module or package, which lies below it in directories of its own name.
fn module(name: &str, path: &str) -> Option<Root> {
    let mut path = fs::canonicalize(path).ok()?;
    if path.file_name().is_some_and(|file| file == "__init__.py") {
        path.pop();
    }
    for part in name.rsplit('.') {
        if path.file_stem()? != part {
            tracing::warn!(target: "econtext", name, path = %path.display(), "an editable install under another name than its directory's is not served");
            return None;
        }
        path.pop();
    }
    Some(Root { path, data: false, only: Some(name.to_owned()) })
}

/// The names and paths in `MAPPING = {'name': 'path'}` or `F.map_module('name', 'path')`.
fn mapped(source: &[u8]) -> Vec<(String, String)> {
    let mut strings = Vec::new();
    let mut within = None;
    let mut opened = false;
    for token in Lexer::new(source) {
        let text = &source[token.start..token.end];
        match (within, token.kind) {
            (None, TokenKind::Name) if text == b"MAPPING" => (within, opened) = (Some(b'}'), false),
            (None, TokenKind::Name) if text == b"map_module" => (within, opened) = (Some(b')'), false),
            (Some(_), TokenKind::Op) if matches!(text, b"{" | b"(") => opened = true,
            (Some(end), TokenKind::Op) if text == [end] => within = None,
            // A name without the bracket was no mapping.
            (Some(_), TokenKind::Newline) => within = None,
            (Some(_), TokenKind::String) if opened => strings.extend(plain(text)),
            _ => {}
        }
    }
    strings.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
}

/// A string literal without a prefix, as `repr` writes it.
fn plain(literal: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(literal).ok()?;
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let text = text.strip_prefix(quote)?.strip_suffix(quote)?;
    Some(text.replace(r"\\", "\\").replace(r"\'", "'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_back_ends_write_for_editable_installs_is_understood() {
        let setuptools = b"from __future__ import annotations\nMAPPING: dict[str, str] = {'a': '/s/a', 'n.b': '/s/n/b'}\nNAMESPACES: dict[str, list[str]] = {'x': ['/y']}\n";
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(mapped(setuptools), [pair("a", "/s/a"), pair("n.b", "/s/n/b")]);
        let editables = b"from editables.redirector import RedirectingFinder as F\nF.install()\nF.map_module('p', '/s/src/p/__init__.py')\n";
        assert_eq!(mapped(editables), [pair("p", "/s/src/p/__init__.py")]);
        assert_eq!(mapped(b"x = MAPPING\ny = 'a', 'b'\n"), []);
        assert_eq!(mapped(b"MAPPING = {'a"), []);
    }
}
