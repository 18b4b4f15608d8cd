// Light or dark: the system's choice, or the reader's, which this browser keeps.

const KEY = "sluice-theme";
const CHOICES = ["system", "light", "dark"];

function kept() {
  try {
    const found = localStorage.getItem(KEY);
    return CHOICES.includes(found) ? found : "system";
  } catch {
    // A browser may keep nothing for a page.
    return "system";
  }
}

function apply(choice) {
  if (choice === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = choice;
}

/** Applies what was chosen, and heeds the switch. */
export function start() {
  const picker = document.getElementById("theme");
  picker.value = kept();
  apply(picker.value);
  picker.addEventListener("change", () => {
    apply(picker.value);
    try {
      localStorage.setItem(KEY, picker.value);
    } catch {
      // Then it holds until the page is left.
    }
  });
}
