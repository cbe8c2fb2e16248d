// Numbers and times as readers of a language write them.

export function makeFormat(locale) {
  const plain = new Intl.NumberFormat(locale);
  const signed = new Intl.NumberFormat(locale, { signDisplay: "exceptZero" });
  // British "1m" would be read as a metre, or a minute.
  const compact = new Intl.NumberFormat(locale === "en-GB" ? "en" : locale, { notation: "compact", maximumFractionDigits: 2 });
  const share = new Intl.NumberFormat(locale, { style: "percent", maximumFractionDigits: 1 });
  const time = new Intl.DateTimeFormat(locale, { timeStyle: "medium" });
  const day = new Intl.DateTimeFormat(locale, { dateStyle: "medium" });
  const both = new Intl.DateTimeFormat(locale, { dateStyle: "medium", timeStyle: "medium" });
  const units = [[86_400, "day"], [3_600, "hour"], [60, "minute"], [1, "second"]];
  const relative = new Intl.RelativeTimeFormat(locale, { numeric: "auto", style: "short" });
  return {
    locale,
    number: (value) => plain.format(value),
    /** With its sign. */
    signed: (value) => signed.format(value),
    /** At most five characters or so: 1.2M. */
    compact: (value) => compact.format(value),
    percent: (value) => share.format(value),
    time: (at) => time.format(new Date(at)),
    day: (at) => day.format(new Date(at)),
    dateTime: (at) => both.format(new Date(at)),
    /** "3 min. ago", "in 2 days". */
    ago: (at, now = Date.now()) => {
      const seconds = (new Date(at).getTime() - now) / 1000;
      const [size, unit] = units.find(([least]) => Math.abs(seconds) >= least) ?? units[3];
      return relative.format(Math.trunc(seconds / size), unit);
    },
  };
}
