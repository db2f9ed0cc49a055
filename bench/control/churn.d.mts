export interface Reported {
  what: string;
  value: number;
}
export function run(size: { seconds: number; guests?: number; rate?: number }, report: (result: Reported) => void): Promise<void>;
