// The linter of the console page's JavaScript. TypeScript finds names and types that do not exist (tsconfig.json).

import js from "@eslint/js";

const HTML_FROM_TEXT = "A text of a link, a guest or an operator is no HTML: use textContent.";

export default [
    js.configs.recommended,
    {
        files: ["**/*.js"],
        languageOptions: { ecmaVersion: 2022, sourceType: "module" },
        linterOptions: { reportUnusedDisableDirectives: "error" },
        rules: {
            "no-undef": "off",
            "no-unused-vars": "off",
            "array-callback-return": "error",
            "consistent-return": "error",
            "curly": "error",
            "default-case-last": "error",
            "eqeqeq": "error",
            "max-len": ["error", { code: 130 }],
            "no-alert": "error",
            "no-console": "error",
            "no-else-return": "error",
            "no-eval": "error",
            "no-implied-eval": "error",
            "no-new-func": "error",
            "no-param-reassign": "error",
            "no-promise-executor-return": "error",
            "no-return-assign": "error",
            "no-script-url": "error",
            "no-shadow": "error",
            "no-template-curly-in-string": "error",
            "no-unmodified-loop-condition": "error",
            "no-unreachable-loop": "error",
            "no-use-before-define": ["error", { functions: false, classes: false, variables: false }],
            "no-var": "error",
            "object-shorthand": "error",
            "prefer-const": "error",
            "prefer-template": "error",
            "no-restricted-properties": [
                "error",
                { property: "innerHTML", message: HTML_FROM_TEXT },
                { property: "outerHTML", message: HTML_FROM_TEXT },
                { property: "insertAdjacentHTML", message: HTML_FROM_TEXT },
                { object: "document", property: "write", message: HTML_FROM_TEXT },
                { object: "document", property: "cookie", message: "The page keeps nothing in cookies." },
            ],
        },
    },
    {
        // For browsers that know no modules, and so none of this.
        files: ["**/start.js"],
        languageOptions: { ecmaVersion: 5, sourceType: "script" },
        rules: { "no-var": "off", "object-shorthand": "off", "prefer-template": "off" },
    },
];
