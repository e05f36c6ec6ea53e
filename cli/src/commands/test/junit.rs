//! The report that CI servers read: one `testsuite` for each file, in JUnit's XML.

use std::path::Path;

use super::Outcome;

pub(super) fn report(outcomes: &[Outcome]) -> String {
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    let mut files: Vec<&Path> = outcomes.iter().map(|one| one.file.as_path()).collect();
    files.dedup();
    for file in files {
        let of: Vec<&Outcome> = outcomes.iter().filter(|one| one.file == file).collect();
        let failures = of.iter().filter(|one| one.fault.is_some()).count();
        let time: f64 = of.iter().map(|one| one.took.as_secs_f64()).sum();
        let name = escaped(&file.display().to_string());
        xml.push_str(&format!(
            "  <testsuite name=\"{name}\" tests=\"{}\" failures=\"{failures}\" time=\"{time:.6}\">\n",
            of.len()
        ));
        for one in of {
            xml.push_str(&format!(
                "    <testcase classname=\"{name}\" name=\"{}\" time=\"{:.6}\"",
                escaped(&one.name),
                one.took.as_secs_f64()
            ));
            match &one.fault {
                None => xml.push_str("/>\n"),
                Some(fault) => {
                    let first = escaped(fault.lines().next().unwrap_or_default());
                    let all = escaped(fault);
                    xml.push_str(&format!(
                        ">\n      <failure message=\"{first}\">{all}</failure>\n    </testcase>\n"
                    ));
                }
            }
        }
        xml.push_str("  </testsuite>\n");
    }
    xml.push_str("</testsuites>\n");
    xml
}

/// XML 1.0 has no place for most control characters, escaped or not.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push_str("&#10;"),
            '\t' => out.push_str("&#9;"),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_a_fault_says_is_escaped() {
        let one = |name: &str, fault: Option<&str>| Outcome {
            file: "a.test.yaml".into(),
            name: name.into(),
            took: Duration::from_millis(2),
            fault: fault.map(str::to_owned),
        };
        let xml = report(&[one("good", None), one("b<d>", Some("x \"&\"\ny\u{1b}"))]);
        assert!(
            xml.contains("tests=\"2\" failures=\"1\" time=\"0.004000\""),
            "{xml}"
        );
        assert!(xml.contains("name=\"b&lt;d&gt;\""), "{xml}");
        assert!(
            xml.contains("x &quot;&amp;&quot;&#10;y\u{fffd}</failure>"),
            "{xml}"
        );
    }
}
