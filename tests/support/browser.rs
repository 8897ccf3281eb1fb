//! A browser without a window, which tells what became of a page.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

/// Names of browsers of the Chromium family: others cannot write what became of a page.
const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/// How often a browser that was started is looked at, ten times a second: far longer than any page takes.
const MOST_LOOKS: u32 = 1200;

/// Where the measuring script writes what it found.
const FOUND: &str = "<pre id=\"found\">";

/// A browser of this machine.
pub(crate) struct Browser(PathBuf);

impl Browser {
    /// The one that `LATHE_TEST_BROWSER` names, or one that is installed.
    #[track_caller]
    pub(crate) fn find() -> Option<Browser> {
        if let Some(named) = env::var_os("LATHE_TEST_BROWSER") {
            let path = on_path(&named).unwrap_or_else(|| PathBuf::from(&named));
            assert!(path.is_file(), "LATHE_TEST_BROWSER names {}, which is not there", path.display());
            return Some(Browser(path));
        }
        NAMES.iter().find_map(|name| on_path(&(*name).into())).map(Browser)
    }

    /// Opens a page, runs `script` on it once it is loaded, and returns what that evaluates to. `faults` is the list of
    /// all errors of scripts and breaches of the content security policy so far.
    #[track_caller]
    pub(crate) fn evaluate(&self, page: &str, dark: bool, script: &str) -> serde_json::Value {
        let watch = "<script>const faults = [];\n\
            addEventListener(\"error\", (event) => faults.push(event.message));\n\
            addEventListener(\"securitypolicyviolation\", (event) => faults.push(event.violatedDirective));</script>";
        let measure = format!(
            "<script>addEventListener(\"load\", () => {{\n\
             let found; try {{ found = (() => {{ {script} }})(); }} catch (error) {{ found = String(error); }}\n\
             const pre = document.createElement(\"pre\"); pre.id = \"found\";\n\
             pre.textContent = encodeURIComponent(JSON.stringify(found));\n\
             document.body.replaceChildren(pre); }});</script>"
        );
        let page = page.replacen("<head>", &format!("<head>{watch}"), 1);
        let (before, after) = page.rsplit_once("</body>").expect("a page has a body");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("page.html");
        fs::write(&file, format!("{before}{measure}</body>{after}")).unwrap();
        let text = self.dump(folder.path(), &file, dark);
        let (_, found) = text.split_once(FOUND).unwrap_or_else(|| panic!("the script has not run:\n{text}"));
        let (found, _) = found.split_once("</pre>").expect("an element ends");
        serde_json::from_str(&decoded(found)).unwrap_or_else(|error| panic!("{error}: {found}"))
    }

    /// The page as text once its scripts have run.
    fn dump(&self, folder: &Path, file: &Path, dark: bool) -> String {
        let (out, errors) = (folder.join("out"), folder.join("errors"));
        let mut profile = OsString::from("--user-data-dir=");
        profile.push(folder.join("profile"));
        let mut command = Command::new(&self.0);
        command
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"])
            .args(["--disable-extensions", "--disable-background-networking", "--window-size=1200,2000"])
            .arg(format!("--blink-settings=preferredColorScheme={}", u8::from(!dark)))
            .args([profile, "--dump-dom".into(), file.into()])
            .stdin(Stdio::null())
            .stdout(File::create(&out).unwrap())
            .stderr(File::create(&errors).unwrap());
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let status = wait(child);
        let said = || String::from_utf8_lossy(&fs::read(&errors).unwrap()).into_owned();
        assert!(status.is_some_and(|status| status.success()), "{command:?}: {status:?}\n{}", said());
        super::files::read_text(&out)
    }
}

/// The end of a process; `None` when it had to be killed.
fn wait(mut child: Child) -> Option<ExitStatus> {
    for _ in 0..MOST_LOOKS {
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            return Some(status);
        }
        thread::sleep(Duration::from_millis(100));
    }
    child.kill().expect("a child can be killed");
    child.wait().expect("a child can be waited for");
    None
}

fn on_path(name: &OsString) -> Option<PathBuf> {
    let folders = env::var_os("PATH")?;
    env::split_paths(&folders).map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// What `encodeURIComponent` has encoded.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut parts = text.split('%');
    bytes.extend(parts.next().unwrap_or_default().bytes());
    for part in parts {
        bytes.push(u8::from_str_radix(&part[..2], 16).expect("two digits follow"));
        bytes.extend(part[2..].bytes());
    }
    String::from_utf8(bytes).expect("it was UTF-8")
}
