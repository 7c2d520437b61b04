// The linter's rules for both folders of JavaScript and TypeScript: what it recommends, without opinions on form, which is the
// formatter's. Rules that need types are left to the compiler, so that neither folder's packages have to be there.

import js from '@eslint/js'
import hooks from 'eslint-plugin-react-hooks'
import globals from 'globals'
import typescript from 'typescript-eslint'

export default typescript.config(
	{ ignores: ['**/dist/', '**/node_modules/', 'gateway/', 'python/', 'session/'] },
	js.configs.recommended,
	typescript.configs.recommended,
	{
		linterOptions: { reportUnusedDisableDirectives: 'error' },
		rules: {
			eqeqeq: 'error',
			'no-var': 'error',
			'prefer-const': 'error',
			// What polkadot.js decodes by the chain's metadata has no type here.
			'@typescript-eslint/no-explicit-any': 'off',
		},
	},
	{
		files: ['javascript/**', 'web/e2e/**', '**/*.config.*'],
		languageOptions: { globals: globals.node },
	},
	{
		// Tests in the browser hand functions to the page, and axe is put into it.
		files: ['web/**'],
		languageOptions: { globals: { ...globals.browser, axe: 'readonly' } },
	},
	{
		// Not exhaustive-deps: effects here run again by a key made of what they use, not by objects that every render makes anew.
		files: ['web/src/**'],
		plugins: { 'react-hooks': hooks },
		rules: { 'react-hooks/rules-of-hooks': 'error' },
	}
)
