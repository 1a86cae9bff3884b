// For those who have eslint: `npx eslint dist4d_env`. Scripts of a page share what they define.
const browser = ["window", "document", "location", "getComputedStyle", "performance", "requestAnimationFrame",
  "cancelAnimationFrame", "atob", "Blob", "Response", "DecompressionStream", "Image", "Path2D", "IntersectionObserver", "ResizeObserver",
  "WebSocket", "TextDecoder", "createImageBitmap", "navigator", "setTimeout", "clearTimeout", "setInterval", "Option", "history",
  "addEventListener", "matchMedia"];
const shared = ["colour", "LIGHTS", "mapPaths", "drawMap", "drawLine", "drawBox", "makeCloud", "pointsOf", "readInput", "readPad",
  "DRIVING", "held"];

export default [{
  files: ["**/*.js"],
  languageOptions: { sourceType: "script", globals: Object.fromEntries([...browser, ...shared].map(name => [name, "readonly"])) },
  rules: {
    "no-undef": "error", "no-unused-vars": ["error", { vars: "local" }], "no-redeclare": ["error", { builtinGlobals: false }],
    "no-unreachable": "error", "prefer-const": "error",
    "no-var": "error", "no-shadow": "error", "eqeqeq": ["error", "always", { null: "ignore" }],
    "max-lines-per-function": ["error", 60],
  },
}];
