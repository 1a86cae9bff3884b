// For those who have eslint: `npx eslint dist4d_env/evaluation/report/page.js`.
const browser = ["window", "document", "location", "getComputedStyle", "performance", "requestAnimationFrame",
  "cancelAnimationFrame", "atob", "Blob", "Response", "DecompressionStream", "Image", "Path2D", "IntersectionObserver", "ResizeObserver"];

export default [{
  files: ["**/*.js"],
  languageOptions: { sourceType: "script", globals: Object.fromEntries(browser.map(name => [name, "readonly"])) },
  rules: {
    "no-undef": "error", "no-unused-vars": "error", "no-redeclare": "error", "no-unreachable": "error", "prefer-const": "error",
    "no-var": "error", "no-shadow": "error", "eqeqeq": ["error", "always", { null: "ignore" }],
    "max-lines-per-function": ["error", 60],
  },
}];
