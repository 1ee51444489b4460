// Sets the chosen theme before the first paint; a module would come too late and flash.
try {
  const chosen = localStorage.getItem("mendloop.theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch {
  // Storage may be forbidden; the system's theme then counts.
}
