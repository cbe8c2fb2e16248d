// Before the first paint: the theme and the language that were chosen here.

{
  const root = document.documentElement;
  const theme = localStorage.getItem("theme");
  if (theme === "light" || theme === "dark") root.dataset.theme = theme;
  const language = localStorage.getItem("language") ?? navigator.language;
  root.lang = language.startsWith("zh") ? "zh-Hans" : "en";
}
