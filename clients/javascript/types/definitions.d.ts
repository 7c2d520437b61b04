/** For `ApiPromise.create({ rpc: definitions })`. */
export declare const definitions: Record<'models' | 'inference' | 'sessions', Record<string, any>>
