/*!
Amounts of bytes as people write and read them.
*/

/// Bytes from text: `1048576`, `64MiB`, `1.5 GB`, `2g`. KB, MB and GB are powers of 1,000; KiB, MiB, GiB and bare k, m, g are powers of 1,024.
///
/// # Errors
/// A sentence that says what would be right.
pub fn parse(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not an amount of bytes: write for example 512MiB, 1GiB or 1048576");
    let trimmed = text.trim();
    let digits = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at_checked(digits).ok_or_else(wrong)?;
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return Err(wrong()),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole: u64 = whole.parse().map_err(|_| wrong())?;
    let mut bytes = whole.checked_mul(factor).ok_or_else(wrong)?;
    if !fraction.is_empty() {
        let thousandths: String = fraction.chars().chain("000".chars()).take(3).collect();
        let thousandths: u64 = thousandths.parse().map_err(|_| wrong())?;
        bytes =
            bytes.checked_add(factor / 1_000 * thousandths + factor % 1_000 * thousandths / 1_000).ok_or_else(wrong)?;
    }
    Ok(bytes)
}

/// Bytes for people: `17 B`, `1.5 KiB`, `31.8 MiB`.
pub fn show(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let (mut tenths, mut unit) = (u128::from(bytes) * 10 / 1024, 0);
    while tenths >= 10_240 && unit + 1 < units.len() {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, units.get(unit).unwrap_or(&"EiB"))
}

/// A count with commas between thousands: `3,000,000`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_as_written() {
        for (text, bytes) in
            [("0", 0), ("1048576", 1 << 20), ("64MiB", 64 << 20), ("1.5 GB", 1_500_000_000), ("2g", 2 << 30)]
        {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        for text in ["", "x", "1.2.3", "5 parsecs", "-1", "99999999999999999999", "999999999999 TiB"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn amounts_are_shown_short() {
        assert_eq!(show(17), "17 B");
        assert_eq!(show(1536), "1.5 KiB");
        assert_eq!(show(33_344_716), "31.7 MiB");
        assert_eq!(show(u64::MAX), "15.9 EiB");
        assert_eq!(count(3_000_000), "3,000,000");
        assert_eq!(count(999), "999");
    }
}
