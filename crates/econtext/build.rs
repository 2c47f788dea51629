//! Makes the child's Python small: minimised, in the best zlib there is, for embedding.

use base64::Engine as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// Python files under `remote/` that are sent on first use, beside the two that always are.
const MODULES: [&str; 12] = [
    "back.py",
    "bulk.py",
    "files.py",
    "process.py",
    "repl.py",
    "rich.py",
    "runner.py",
    "spawn.py",
    "spool.py",
    "stream.py",
    "transfer.py",
    "values.py",
];

fn main() -> io::Result<()> {
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("no OUT_DIR"))?);
    println!("cargo::rerun-if-changed=remote");
    // Nobody sees line numbers of the first stage.
    let first_stage = compress(minimized("first_stage.py")?.trim_ascii_start())?;
    fs::write(out.join("first_stage.b64"), base64::prelude::BASE64_STANDARD.encode(first_stage))?;
    let mut core = minimized("core.py")?;
    core.push(b'\n');
    fs::write(out.join("core.z"), compress(&core)?)?;
    for name in MODULES {
        fs::write(out.join(name).with_extension("z"), compress(&minimized(name)?)?)?;
    }
    Ok(())
}

fn minimized(name: &str) -> io::Result<Vec<u8>> {
    let mut source = econtext_pysource::minimize(&fs::read(Path::new("remote").join(name))?);
    while source.ends_with(b"\n") {
        source.pop();
    }
    Ok(source)
}

fn compress(data: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    let options = zopfli::Options {
        iteration_count: std::num::NonZeroU64::new(50).ok_or(io::ErrorKind::Other)?,
        ..Default::default()
    };
    zopfli::compress(options, zopfli::Format::Zlib, data, &mut out)?;
    Ok(out)
}
